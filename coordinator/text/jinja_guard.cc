#include "coordinator/text/jinja_guard.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace kvec::coordinator::text {
namespace {

thread_local JinjaGuard* current_guard = nullptr;

// Put first into the bodies of loops and macros; renders as nothing.
struct GuardStatement : public jinja::statement {
  std::string type() const override { return "Guard"; }
  jinja::value execute_impl(jinja::context&) const override {
    JinjaGuard::OfThisThread().CountRounds(1);
    return jinja::mk_val<jinja::value_undefined>();
  }
};

void WatchStatements(jinja::statements& statements);

void WatchBody(jinja::statements& body) {
  WatchStatements(body);
  auto guard = std::make_unique<GuardStatement>();
  guard->pos = 0;
  body.insert(body.begin(), std::move(guard));
}

void WatchStatements(jinja::statements& statements) {
  for (jinja::statement_ptr& statement : statements) {
    if (auto* branch = jinja::cast_stmt<jinja::if_statement>(statement)) {
      WatchStatements(branch->body);
      WatchStatements(branch->alternate);
    } else if (auto* loop = jinja::cast_stmt<jinja::for_statement>(statement)) {
      WatchBody(loop->body);
      WatchStatements(loop->default_block);
    } else if (auto* macro = jinja::cast_stmt<jinja::macro_statement>(statement)) {
      WatchBody(macro->body);
    } else if (auto* call = jinja::cast_stmt<jinja::call_statement>(statement)) {
      WatchBody(call->body);
    } else if (auto* set = jinja::cast_stmt<jinja::set_statement>(statement)) {
      WatchStatements(set->body);
    } else if (auto* filter = jinja::cast_stmt<jinja::filter_statement>(statement)) {
      WatchStatements(filter->body);
    }
  }
}

// Follows the tokens of a source; all depths are of the token that was seen last.
class NestingCounter {
 public:
  bool Exceeds(const jinja::token& token) {
    using Token = jinja::token;
    switch (token.t) {
      case Token::open_statement:
      case Token::open_expression:
        expression_tokens_ = 0;
        brackets_ = 0;
        break;
      case Token::open_paren:
      case Token::open_square_bracket:
      case Token::open_curly_bracket:
        ++brackets_;
        break;
      case Token::close_paren:
      case Token::close_square_bracket:
      case Token::close_curly_bracket:
        --brackets_;
        break;
      case Token::identifier:
        if (expression_tokens_ == 1) CountWord(token.value);
        break;
      case Token::equals:
        maybe_block_set_ = false;
        break;
      case Token::close_statement:
        if (std::exchange(maybe_block_set_, false)) OpenBlock();
        break;
      default:
        break;
    }
    ++expression_tokens_;
    return brackets_ > JinjaGuard::kMaxNesting || blocks_ > JinjaGuard::kMaxNesting ||
           expression_tokens_ > JinjaGuard::kMaxExpression;
  }

 private:
  // The word behind "{%". An elif is an if inside the else before it; it counts until the outermost
  // block ends. A set opens a block if it has no "=".
  void CountWord(const std::string& word) {
    static const auto* const kBlocks =
        new absl::flat_hash_set<std::string>{"if", "for", "macro", "call", "filter", "generation"};
    maybe_block_set_ = word == "set";
    if (kBlocks->contains(word)) {
      OpenBlock();
    } else if (word == "elif") {
      ++blocks_;
    } else if (word == "endset" ||
               (absl::StartsWith(word, "end") && kBlocks->contains(word.substr(3)))) {
      open_blocks_ = std::max(0, open_blocks_ - 1);
      blocks_ = open_blocks_ == 0 ? 0 : std::max(0, blocks_ - 1);
    }
  }

  void OpenBlock() {
    ++open_blocks_;
    ++blocks_;
  }

  int brackets_ = 0;
  int blocks_ = 0;  // with elifs
  int open_blocks_ = 0;
  int expression_tokens_ = 0;
  bool maybe_block_set_ = false;
};

}  // namespace

absl::Status JinjaGuard::CheckNesting(const jinja::lexer_result& source) {
  NestingCounter counter;
  for (const jinja::token& token : source.tokens) {
    if (!counter.Exceeds(token)) continue;
    const size_t position = std::min(token.pos, source.source.size());
    const auto line = 1 + std::count(source.source.begin(), source.source.begin() + position, '\n');
    return absl::InvalidArgumentError(
        absl::StrCat("chat template, line ", line, ": nested deeper than ", kMaxNesting,
                     " or longer than ", kMaxExpression, " tokens in one expression"));
  }
  return absl::OkStatus();
}

void JinjaGuard::Watch(jinja::program& program) { WatchStatements(program.body); }

JinjaGuard::JinjaGuard(size_t input_bytes, bool* out_of_memory)
    : stack_begin_(static_cast<char*>(__builtin_frame_address(0))),
      out_of_memory_(out_of_memory),
      allocations_({.max_live_bytes = kMaxLiveBytes +
                                      kMaxLiveBytesPerInputByte * static_cast<int64_t>(input_bytes),
                    .max_total_bytes = kMaxTotalBytes + kMaxTotalBytesPerInputByte *
                                                            static_cast<int64_t>(input_bytes)}) {
  current_guard = this;
  jinja::stack_limit = stack_begin_ - kMaxStackBytes;
  jinja::assigned_values_left = kMaxAssignedValues;
}

JinjaGuard::~JinjaGuard() {
  *out_of_memory_ = allocations_.exceeded();
  jinja::stack_limit = nullptr;
  current_guard = nullptr;
}

JinjaGuard& JinjaGuard::OfThisThread() { return *current_guard; }

void JinjaGuard::CountRounds(int64_t rounds) {
  if (rounds > rounds_left_) {
    throw JinjaAbort{absl::ResourceExhaustedError(
        absl::StrCat("chat template: more than ", kMaxRounds, " loop rounds and macro calls"))};
  }
  rounds_left_ -= rounds;
  const auto* top = static_cast<const char*>(__builtin_frame_address(0));
  if (stack_begin_ > top && static_cast<size_t>(stack_begin_ - top) > kMaxStackBytes) {
    throw JinjaAbort{
        absl::ResourceExhaustedError("chat template: macros call each other too deeply")};
  }
}

}  // namespace kvec::coordinator::text
