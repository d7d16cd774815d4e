#include "coordinator/client/token_command.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <istream>
#include <ostream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/security/secret.h"
#include "common/status_macros.h"

namespace kvec::coordinator::client {
namespace {

constexpr char kExamples[] = R"(Examples:
  kvec token --name alice --append tokens.txt > alice.token
  kvec generate --token-file alice.token --prompt Hello
  kvec token --hash --name bob < bob.token >> tokens.txt     of a token that is there already
  kvec token > join.token                                    for --join-token-file

A token can't be had back from tokens.txt, whose lines are its SHA-256 and a name. Remove a line to
revoke its token. The same line without kvec: printf %s "$TOKEN" | sha256sum
)";

// One write, so that a coordinator never reads half a line. Only the owner may read a new file.
absl::Status Append(const std::string& path, const std::string& line) {
  const int descriptor = open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (descriptor < 0) return absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot open"));
  const ssize_t size = write(descriptor, line.data(), line.size());
  const int error = errno;
  close(descriptor);
  if (size == static_cast<ssize_t>(line.size())) return absl::OkStatus();
  return absl::ErrnoToStatus(size < 0 ? error : ENOSPC, absl::StrCat(path, ": cannot write"));
}

absl::StatusOr<std::string> ReadTokenFrom(std::istream& in) {
  std::string token;
  std::getline(in, token);
  absl::StripAsciiWhitespace(&token);
  const absl::Status status = security::CheckToken(token);
  if (status.ok()) return token;
  return absl::InvalidArgumentError(absl::StrCat("standard input: ", status.message()));
}

}  // namespace

TokenCommand::TokenCommand(CLI::App& program)
    : command_(program.add_subcommand("token", "Makes a token, and its line of a tokens file")) {
  command_->footer(kExamples);
  command_->add_option("--name", name_, "Whose it is, for those who read the tokens file");
  command_->add_option("--append", append_, "Adds the line to this file")->type_name("FILE");
  command_->add_flag("--hash", hash_,
                     "Reads a token from the standard input instead of making one");
}

absl::Status TokenCommand::Run(Terminal& terminal) {
  if (!std::all_of(name_.begin(), name_.end(), absl::ascii_isprint)) {
    return absl::InvalidArgumentError("--name: has a character that is not printable ASCII");
  }
  std::string token;
  if (hash_) {
    KVEC_ASSIGN_OR_RETURN(token, ReadTokenFrom(terminal.in));
  } else {
    token = security::MakeToken();
  }
  const std::string line =
      absl::StrCat(security::Sha256Hex(token), name_.empty() ? "" : "  ", name_);
  if (!append_.empty()) {
    KVEC_RETURN_IF_ERROR(Append(append_, line + "\n"));
  } else {
    (hash_ ? terminal.out : terminal.err) << line << std::endl;
  }
  if (!hash_) terminal.out << token << std::endl;
  return absl::OkStatus();
}

}  // namespace kvec::coordinator::client
