#include "coordinator/text/pre_tokenizer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "common/status_macros.h"
#include "coordinator/text/utf8.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace kvec::coordinator::text {
namespace {

// For patterns out of a model's file: those of real models backtrack over one run of characters.
constexpr uint32_t kMatchLimit = 100'000'000;
constexpr uint32_t kHeapLimitKib = 256 * 1024;
constexpr size_t kMaxRules = 32;  // rules nest calls

struct CodeDeleter {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct MatchDataDeleter {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
struct MatchContextDeleter {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};

// PCRE2 counts U+180E as a space; Unicode since 6.3, and with it Rust and Oniguruma, do not.
// What a class cannot hold, \S inside brackets, is left as it is.
std::string WithUnicodeSpaces(absl::string_view pattern) {
  constexpr absl::string_view kSpaces =
      "\\t-\\r\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}"
      "\\x{205F}\\x{3000}";
  std::string result;
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char escaped = pattern[++i];
      if (escaped == 's') {
        absl::StrAppend(&result, in_class ? "" : "[", kSpaces, in_class ? "" : "]");
      } else if (escaped == 'S' && !in_class) {
        absl::StrAppend(&result, "[^", kSpaces, "]");
      } else {
        result += {c, escaped};
      }
      continue;
    }
    if (c == '[') in_class = true;
    if (c == ']') in_class = false;
    result += c;
  }
  return result;
}

std::string ErrorText(int error) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(error, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

// What matching needs besides the pattern; one for each call, since threads share the patterns.
class MatchState {
 public:
  MatchState()
      : data_(pcre2_match_data_create(1, nullptr)), context_(pcre2_match_context_create(nullptr)) {
    pcre2_set_match_limit(context_.get(), kMatchLimit);
    pcre2_set_heap_limit(context_.get(), kHeapLimitKib);
  }

  // The first match at or after `from`, in begin and end; false if there is none.
  absl::StatusOr<bool> Find(const pcre2_code* code, absl::string_view text, size_t from) {
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    int found = pcre2_match(code, subject, text.size(), from, PCRE2_NO_UTF_CHECK, data_.get(),
                            context_.get());
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) {  // the interpreter keeps its stack on the heap
      found = pcre2_match(code, subject, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                          data_.get(), context_.get());
    }
    if (found == PCRE2_ERROR_NOMATCH) return false;
    if (found < 0) {
      return absl::ResourceExhaustedError(
          absl::StrCat("text: the pre-tokenizer's pattern fails at byte ", from, " of a piece of ",
                       text.size(), ": ", ErrorText(found)));
    }
    const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(data_.get());
    begin = offsets[0];
    end = offsets[1];
    return true;
  }

  size_t begin = 0;
  size_t end = 0;

 private:
  std::unique_ptr<pcre2_match_data, MatchDataDeleter> data_;
  std::unique_ptr<pcre2_match_context, MatchContextDeleter> context_;
};

}  // namespace

class PreTokenizer::Rule {
 public:
  static absl::StatusOr<std::unique_ptr<Rule>> Create(const SplitRule& rule) {
    const std::string pattern = WithUnicodeSpaces(rule.pattern);
    int error = 0;
    PCRE2_SIZE offset = 0;
    pcre2_code* code =
        pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                      PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
    if (code == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("pre-tokenizer: pattern \"", rule.pattern, "\": ", ErrorText(error)));
    }
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // where it fails, matching is only slower
    return std::unique_ptr<Rule>(new Rule(code, rule.behavior));
  }

  absl::Status Split(absl::string_view text, MatchState& state, EmitPiece emit) const {
    using Behavior = SplitRule::Behavior;
    const auto emit_range = [&](size_t begin, size_t end) {
      return begin == end ? absl::OkStatus() : emit(text.substr(begin, end - begin));
    };
    size_t done = 0;  // the text before is in pieces
    size_t from = 0;  // the next match begins here or later
    while (from < text.size()) {
      KVEC_ASSIGN_OR_RETURN(const bool found, state.Find(code_.get(), text, from));
      if (!found) break;
      const size_t begin = state.begin;
      const size_t end = state.end;
      if (begin == end) {  // an empty match cuts nothing
        from = end < text.size() ? end + CharacterLength(text[end]) : end;
        continue;
      }
      if (behavior_ == Behavior::kMergedWithPrevious) {
        KVEC_RETURN_IF_ERROR(emit_range(done, end));
        done = end;
      } else if (behavior_ == Behavior::kMergedWithNext) {
        KVEC_RETURN_IF_ERROR(emit_range(done, begin));
        done = begin;
      } else {
        if (behavior_ != Behavior::kRemoveGaps) KVEC_RETURN_IF_ERROR(emit_range(done, begin));
        if (behavior_ != Behavior::kRemoveMatches) KVEC_RETURN_IF_ERROR(emit_range(begin, end));
        done = end;
      }
      from = end;
    }
    if (behavior_ == Behavior::kRemoveGaps) return absl::OkStatus();
    return emit_range(done, text.size());
  }

 private:
  Rule(pcre2_code* code, SplitRule::Behavior behavior) : code_(code), behavior_(behavior) {}

  std::unique_ptr<pcre2_code, CodeDeleter> code_;
  SplitRule::Behavior behavior_;
};

PreTokenizer::PreTokenizer(std::vector<std::unique_ptr<Rule>> rules) : rules_(std::move(rules)) {}
PreTokenizer::PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;
PreTokenizer::~PreTokenizer() = default;

absl::StatusOr<PreTokenizer> PreTokenizer::Create(const std::vector<SplitRule>& rules) {
  if (rules.size() > kMaxRules) {
    return absl::InvalidArgumentError(absl::StrCat(
        "pre-tokenizer: ", rules.size(), " rules, at most ", kMaxRules, " are supported"));
  }
  std::vector<std::unique_ptr<Rule>> compiled;
  for (const SplitRule& rule : rules) {
    KVEC_ASSIGN_OR_RETURN(compiled.emplace_back(), Rule::Create(rule));
  }
  PreTokenizer result(std::move(compiled));
  result.removes_text_ = std::any_of(rules.begin(), rules.end(), [](const SplitRule& rule) {
    return rule.behavior == SplitRule::Behavior::kRemoveGaps ||
           rule.behavior == SplitRule::Behavior::kRemoveMatches;
  });
  return result;
}

absl::Status PreTokenizer::Split(absl::string_view text, EmitPiece emit) const {
  MatchState state;
  // Depth first, so that a long text's pieces are never all in memory at once.
  struct Descent {
    absl::Span<const std::unique_ptr<Rule>> rules;
    MatchState& state;
    EmitPiece emit;
    absl::Status Apply(size_t depth, absl::string_view piece) const {
      if (depth == rules.size()) return emit(piece);
      return rules[depth]->Split(piece, state,
                                 [&](absl::string_view part) { return Apply(depth + 1, part); });
    }
  };
  return Descent{rules_, state, emit}.Apply(0, text);
}

}  // namespace kvec::coordinator::text
