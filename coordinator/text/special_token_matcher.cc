#include "coordinator/text/special_token_matcher.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace kvec::coordinator::text {
namespace {

uint64_t EdgeKey(uint32_t node, char byte) {
  return uint64_t{node} * 256 + static_cast<uint8_t>(byte);
}

bool TouchesAny(absl::Span<const ByteRange> ranges, size_t begin, size_t end) {
  const auto first_after = std::partition_point(
      ranges.begin(), ranges.end(), [&](const ByteRange& range) { return range.end <= begin; });
  return first_after != ranges.end() && first_after->begin < end;
}

}  // namespace

absl::Status SpecialTokenMatcher::Add(absl::string_view token, int32_t id, Kind kind) {
  if (token.empty() || token.size() > kMaxLength) {
    return absl::InvalidArgumentError(absl::StrCat("special token ", id, ": its text has ",
                                                   token.size(), " bytes, supported are 1 to ",
                                                   kMaxLength));
  }
  first_bytes_.set(static_cast<uint8_t>(token[0]));
  uint32_t node = 0;
  for (const char byte : token) {
    const auto next = static_cast<uint32_t>(nodes_.size());
    const auto [child, is_new] = children_.try_emplace(EdgeKey(node, byte), next);
    if (is_new) nodes_.emplace_back();
    node = child->second;
  }
  if (nodes_[node].id < 0) nodes_[node] = {id, kind};
  return absl::OkStatus();
}

std::optional<SpecialTokenMatcher::Match> SpecialTokenMatcher::Next(
    absl::string_view text, size_t from, const EncodeOptions& options) const {
  for (size_t i = from; i < text.size(); ++i) {
    if (!first_bytes_[static_cast<uint8_t>(text[i])]) continue;
    if (const auto match = LongestAt(text, i, options)) return match;
  }
  return std::nullopt;
}

std::optional<SpecialTokenMatcher::Match> SpecialTokenMatcher::LongestAt(
    absl::string_view text, size_t begin, const EncodeOptions& options) const {
  std::optional<Match> longest;
  uint32_t node = 0;
  for (size_t i = begin; i < text.size(); ++i) {
    const auto child = children_.find(EdgeKey(node, text[i]));
    if (child == children_.end()) break;
    node = child->second;
    const Node& end = nodes_[node];
    if (end.id < 0) continue;
    if (end.kind == Kind::kControl &&
        (!options.parse_special || TouchesAny(options.plain_ranges, begin, i + 1))) {
      continue;
    }
    longest = Match{begin, i + 1, end.id};
  }
  return longest;
}

}  // namespace kvec::coordinator::text
