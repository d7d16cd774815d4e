#include "coordinator/text/sentence_piece_model.h"

#include <cstddef>
#include <limits>
#include <queue>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "coordinator/text/byte_piece.h"
#include "coordinator/text/utf8.h"

namespace kvec::coordinator::text {
namespace {

using Pieces = absl::flat_hash_map<std::string, SentencePieceModel::Piece>;
using Halves = std::pair<absl::string_view, absl::string_view>;

constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();

// Joins the characters of one span of text into pieces.
class Joiner {
 public:
  Joiner(absl::string_view span, const Pieces& pieces) : pieces_(pieces) {
    for (size_t begin = 0; begin < span.size();) {
      const size_t size = CharacterLength(span[begin]);
      const auto index = static_cast<uint32_t>(symbols_.size());
      symbols_.push_back({span.substr(begin, size), index == 0 ? kNone : index - 1, index + 1});
      begin += size;
    }
    if (!symbols_.empty()) symbols_.back().next = kNone;
  }

  // Calls `append(symbol)` for every symbol that is left, from first to last.
  template <typename Append>
  void Join(const Append& append) {
    for (uint32_t i = 0; i < symbols_.size(); ++i) Propose(i);
    while (!candidates_.empty()) {
      const Candidate best = candidates_.top();
      candidates_.pop();
      Symbol& left = symbols_[best.left];
      // Out of date when either side was joined with something else since.
      if (left.next == kNone || left.text.empty() ||
          left.text.size() + symbols_[left.next].text.size() != best.size) {
        continue;
      }
      Symbol& right = symbols_[left.next];
      left.text = Together(left, right);
      right.text = {};
      left.next = right.next;
      if (left.next != kNone) symbols_[left.next].previous = best.left;
      Propose(best.left);
      if (left.previous != kNone) Propose(left.previous);
    }
    for (uint32_t i = 0; i < symbols_.size() && i != kNone; i = symbols_[i].next) {
      Cut(symbols_[i].text, append);
    }
  }

 private:
  struct Symbol {
    absl::string_view text;  // empty: joined to the one before
    uint32_t previous;
    uint32_t next;
  };

  struct Candidate {
    float score;
    uint32_t left;
    size_t size;  // of both texts

    bool operator<(const Candidate& other) const {
      return score < other.score || (score == other.score && left > other.left);
    }
  };

  static absl::string_view Together(const Symbol& left, const Symbol& right) {
    return {left.text.data(), left.text.size() + right.text.size()};
  }

  void Propose(uint32_t index) {
    const Symbol& left = symbols_[index];
    if (left.next == kNone) return;
    const Symbol& right = symbols_[left.next];
    const absl::string_view text = Together(left, right);
    const auto piece = pieces_.find(text);
    if (piece == pieces_.end()) return;
    candidates_.push({piece->second.score, index, text.size()});
    if (piece->second.is_unused) joined_from_[text] = {left.text, right.text};
  }

  // An unused piece falls apart again into what it was joined from.
  template <typename Append>
  void Cut(absl::string_view text, const Append& append) const {
    const auto piece = pieces_.find(text);
    const auto halves = joined_from_.find(text);
    if (piece == pieces_.end() || !piece->second.is_unused || halves == joined_from_.end()) {
      append(text, piece == pieces_.end() ? nullptr : &piece->second);
      return;
    }
    Cut(halves->second.first, append);
    Cut(halves->second.second, append);
  }

  const Pieces& pieces_;
  std::vector<Symbol> symbols_;
  std::priority_queue<Candidate> candidates_;
  absl::flat_hash_map<absl::string_view, Halves> joined_from_;
};

}  // namespace

absl::Status SentencePieceModel::Encode(absl::string_view text, Place,
                                        std::vector<int32_t>& ids) const {
  const std::string normalized =
      absl::StrCat(options_.add_space_prefix ? kSpaceSymbol : absl::string_view(),
                   absl::StrReplaceAll(text, {{" ", kSpaceSymbol}}));
  const absl::string_view all = normalized;
  for (size_t done = 0; done < all.size();) {
    const auto user_defined = options_.user_defined.Next(all, done, EncodeOptions());
    const size_t end = user_defined.has_value() ? user_defined->begin : all.size();
    EncodeSpan(all.substr(done, end - done), ids);
    if (!user_defined.has_value()) break;
    ids.push_back(user_defined->id);
    done = user_defined->end;
  }
  return absl::OkStatus();
}

void SentencePieceModel::EncodeSpan(absl::string_view span, std::vector<int32_t>& ids) const {
  bool after_unknown = false;
  Joiner(span, options_.pieces).Join([&](absl::string_view symbol, const Piece* piece) {
    if (piece != nullptr) {
      ids.push_back(piece->id);
    } else if (options_.byte_ids.has_value()) {
      for (const char byte : symbol) {
        ids.push_back((*options_.byte_ids)[static_cast<uint8_t>(byte)]);
      }
    } else if (!after_unknown) {
      ids.push_back(options_.unknown_id);  // one for all neighbours
    }
    after_unknown = piece == nullptr;
  });
}

}  // namespace kvec::coordinator::text
