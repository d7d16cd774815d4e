#include "common/security/token_guard.h"

#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/logging.h"
#include "common/security/secret.h"
#include "common/status_macros.h"

namespace kvec::security {
namespace {

constexpr absl::Duration kLookInterval = absl::Seconds(1);
// A file that was written just now may be written once more without a change of its times.
constexpr absl::Duration kSettled = absl::Seconds(2);
constexpr absl::string_view kScheme = "bearer ";

absl::StatusOr<TokenHashes> ParseToken(absl::string_view text) {
  const absl::string_view token = absl::StripAsciiWhitespace(text);
  KVEC_RETURN_IF_ERROR(CheckToken(token));
  return TokenHashes::Of(token);
}

}  // namespace

absl::StatusOr<std::shared_ptr<TokenGuard>> TokenGuard::OfHashFile(std::string path, Clock clock) {
  return OfFile(std::move(path), &TokenHashes::Parse, std::move(clock));
}

absl::StatusOr<std::shared_ptr<TokenGuard>> TokenGuard::OfTokenFile(std::string path, Clock clock) {
  return OfFile(std::move(path), &ParseToken, std::move(clock));
}

std::shared_ptr<TokenGuard> TokenGuard::OfToken(absl::string_view token) {
  return std::shared_ptr<TokenGuard>(
      new TokenGuard("", nullptr, absl::Now, TokenHashes::Of(token)));
}

absl::StatusOr<std::shared_ptr<TokenGuard>> TokenGuard::OfFile(std::string path, Parser parse,
                                                               Clock clock) {
  const absl::Time now = clock();
  std::shared_ptr<TokenGuard> guard(
      new TokenGuard(std::move(path), parse, std::move(clock), TokenHashes()));
  absl::MutexLock lock(&guard->mutex_);
  KVEC_RETURN_IF_ERROR(guard->Reload(now));
  return guard;
}

absl::StatusOr<TokenGuard::Stamp> TokenGuard::StampOf(const std::string& path) {
  struct stat info = {};
  if (stat(path.c_str(), &info) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot stat"));
  }
  return Stamp{info.st_dev, info.st_ino, info.st_size, absl::TimeFromTimespec(info.st_mtim),
               absl::TimeFromTimespec(info.st_ctim)};
}

absl::Status TokenGuard::Reload(absl::Time now) {
  next_look_ = now + kLookInterval;
  // Before reading: what is written in between is then read once more.
  KVEC_ASSIGN_OR_RETURN(const Stamp stamp, StampOf(path_));
  if (stamp_ == stamp) return absl::OkStatus();
  KVEC_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path_));
  absl::StatusOr<TokenHashes> tokens = parse_(text);
  if (!tokens.ok()) {
    return absl::Status(tokens.status().code(),
                        absl::StrCat(path_, ": ", tokens.status().message()));
  }
  stamp_.reset();
  if (now - stamp.changed > kSettled) stamp_ = stamp;
  if (*tokens == tokens_) return absl::OkStatus();
  tokens_ = *std::move(tokens);
  LOG(INFO) << path_ << ": " << tokens_.size() << " tokens in force";
  return absl::OkStatus();
}

bool TokenGuard::Knows(absl::string_view token) {
  absl::MutexLock lock(&mutex_);
  if (const absl::Time now = clock_(); !path_.empty() && now >= next_look_) {
    const absl::Status status = Reload(now);
    if (!status.ok() && status.message() != last_error_) {
      LOG(ERROR) << status.message() << "; the tokens read before stay in force";
    }
    last_error_ = std::string(status.message());
  }
  return tokens_.Contains(token);
}

absl::Status TokenGuard::Check(std::optional<absl::string_view> authorization) {
  if (!authorization.has_value()) {
    return absl::UnauthenticatedError(
        "authorization: this server wants a token in it, \"Bearer TOKEN\"");
  }
  absl::string_view token = *authorization;
  if (!absl::StartsWithIgnoreCase(token, kScheme)) {
    return absl::UnauthenticatedError(
        "authorization: is not of the form \"Bearer TOKEN\" that this server wants");
  }
  token = absl::StripAsciiWhitespace(token.substr(kScheme.size()));
  if (!Knows(token)) {
    return absl::UnauthenticatedError("authorization: its token is not one that this server takes");
  }
  return absl::OkStatus();
}

}  // namespace kvec::security
