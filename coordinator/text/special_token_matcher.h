#ifndef KVEC_COORDINATOR_TEXT_SPECIAL_TOKEN_MATCHER_H_
#define KVEC_COORDINATOR_TEXT_SPECIAL_TOKEN_MATCHER_H_

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "coordinator/text/tokenizer.h"

namespace kvec::coordinator::text {

// Finds the tokens that are split off a text before the subword model sees it: control tokens,
// where the caller allows them, and user-defined tokens, everywhere. A trie: the time for a text is
// at most its length times kMaxLength, however many tokens there are. Filled once, then read from
// any thread.
class SpecialTokenMatcher {
 public:
  enum class Kind { kControl, kUserDefined };
  struct Match {
    size_t begin;
    size_t end;
    int32_t id;
  };
  static constexpr size_t kMaxLength = 256;  // bytes of one token

  // INVALID_ARGUMENT for an empty or overlong token. Of two tokens with the same text the first
  // stays.
  absl::Status Add(absl::string_view token, int32_t id, Kind kind);

  // The leftmost match that begins at or after `from`, the longest of those that begin there.
  std::optional<Match> Next(absl::string_view text, size_t from,
                            const EncodeOptions& options) const;

 private:
  struct Node {
    int32_t id = -1;  // of the token that ends here
    Kind kind = Kind::kControl;
  };

  std::optional<Match> LongestAt(absl::string_view text, size_t begin,
                                 const EncodeOptions& options) const;

  std::bitset<256> first_bytes_;
  std::vector<Node> nodes_ = std::vector<Node>(1);    // nodes_[0] is the root
  absl::flat_hash_map<uint64_t, uint32_t> children_;  // node * 256 + byte → node
};

}  // namespace kvec::coordinator::text

#endif  // KVEC_COORDINATOR_TEXT_SPECIAL_TOKEN_MATCHER_H_
