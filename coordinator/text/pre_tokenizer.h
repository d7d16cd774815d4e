#ifndef KVEC_COORDINATOR_TEXT_PRE_TOKENIZER_H_
#define KVEC_COORDINATOR_TEXT_PRE_TOKENIZER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kvec::coordinator::text {

// One step of a pre-tokenizer: where a regular expression matches, the text is cut.
struct SplitRule {
  enum class Behavior {
    kIsolated,            // matches and the text between them are pieces
    kRemoveGaps,          // matches are pieces, the text between them is dropped
    kRemoveMatches,       // the other way round
    kMergedWithPrevious,  // a match ends the piece of the text before it
    kMergedWithNext,      // a match begins the piece of the text behind it
  };
  std::string pattern;
  Behavior behavior = Behavior::kIsolated;
};

// Cuts text into the pieces that BPE merges never cross. Rules apply one after the other, each to
// the pieces of the one before, as if these were the whole text. Without rules the text is one
// piece. Immutable; any thread.
class PreTokenizer {
 public:
  using EmitPiece = absl::FunctionRef<absl::Status(absl::string_view)>;

  // INVALID_ARGUMENT names the pattern that does not compile.
  static absl::StatusOr<PreTokenizer> Create(const std::vector<SplitRule>& rules);

  PreTokenizer();  // without rules
  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;
  ~PreTokenizer();

  // Whether a rule leaves text out.
  bool removes_text() const { return removes_text_; }

  // Calls `emit` with the pieces of `text` (valid UTF-8) in order; stops at its first error.
  // RESOURCE_EXHAUSTED when a pattern needs too much backtracking for this text.
  absl::Status Split(absl::string_view text, EmitPiece emit) const;

 private:
  class Rule;

  explicit PreTokenizer(std::vector<std::unique_ptr<Rule>> rules);

  std::vector<std::unique_ptr<Rule>> rules_;
  bool removes_text_ = false;
};

}  // namespace kvec::coordinator::text

#endif  // KVEC_COORDINATOR_TEXT_PRE_TOKENIZER_H_
