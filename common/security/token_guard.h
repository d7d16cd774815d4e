#ifndef KVEC_COMMON_SECURITY_TOKEN_GUARD_H_
#define KVEC_COMMON_SECURITY_TOKEN_GUARD_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/security/token_hashes.h"

namespace kvec::security {

// Knows which bearer tokens a listener takes. Those of a file are read again when it changes,
// within a second; while it is unreadable or malformed the last ones stay in force, and the log
// says so. Owned by the listener's credentials, called by gRPC's threads for every call.
// Thread-safe.
class TokenGuard {
 public:
  using Clock = std::function<absl::Time()>;

  // A file of hashes, see TokenHashes. An error when it can't be read or parsed.
  static absl::StatusOr<std::shared_ptr<TokenGuard>> OfHashFile(std::string path,
                                                                Clock clock = absl::Now);
  // A file that holds one token itself: both ends of a link read it.
  static absl::StatusOr<std::shared_ptr<TokenGuard>> OfTokenFile(std::string path,
                                                                 Clock clock = absl::Now);
  static std::shared_ptr<TokenGuard> OfToken(absl::string_view token);

  // Whether a call may go on whose header "authorization" is this; nothing: it has none. Else
  // UNAUTHENTICATED, with a message that says nothing of any token.
  absl::Status Check(std::optional<absl::string_view> authorization);

 private:
  using Parser = absl::StatusOr<TokenHashes> (*)(absl::string_view text);

  // What tells whether a file has changed.
  struct Stamp {
    dev_t device = 0;
    ino_t inode = 0;
    off_t size = 0;
    absl::Time modified;
    absl::Time changed;

    bool operator==(const Stamp& other) const = default;
  };

  TokenGuard(std::string path, Parser parse, Clock clock, TokenHashes tokens)
      : path_(std::move(path)),
        parse_(parse),
        clock_(std::move(clock)),
        tokens_(std::move(tokens)) {}

  static absl::StatusOr<std::shared_ptr<TokenGuard>> OfFile(std::string path, Parser parse,
                                                            Clock clock);
  static absl::StatusOr<Stamp> StampOf(const std::string& path);

  // Reads the file if it may have changed.
  absl::Status Reload(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Knows(absl::string_view token);

  const std::string path_;  // empty: the tokens never change
  const Parser parse_;
  const Clock clock_;

  absl::Mutex mutex_;
  TokenHashes tokens_ ABSL_GUARDED_BY(mutex_);
  absl::Time next_look_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  std::optional<Stamp> stamp_ ABSL_GUARDED_BY(mutex_);  // of what tokens_ was read from
  std::string last_error_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvec::security

#endif  // KVEC_COMMON_SECURITY_TOKEN_GUARD_H_
