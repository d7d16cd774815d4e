#include "coordinator/text/tokenizer_json_steps.h"

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/model/error_text.h"
#include "common/model/json_fields.h"
#include "common/status_macros.h"
#include "coordinator/text/named_pre_tokenizers.h"

namespace kvec::coordinator::text {
namespace {

using nlohmann::json;

absl::Status Unsupported(absl::string_view what, absl::string_view value, absl::string_view known) {
  return absl::InvalidArgumentError(absl::StrCat("tokenizer.json: ", what, " ", Quoted(value),
                                                 " is not supported; known: ", known));
}

std::string EscapeRegex(absl::string_view literal) {
  std::string pattern;
  for (const char c : literal) {
    if (absl::ascii_ispunct(c)) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

// {"String": "…"}: literal text.
absl::StatusOr<std::string> LiteralPattern(const JsonFields& step) {
  KVEC_ASSIGN_OR_RETURN(const JsonFields pattern, step.Object("pattern"));
  return pattern.String("String");
}

class StepsReader {
 public:
  absl::Status AddNormalizer(const json& value) {
    KVEC_ASSIGN_OR_RETURN(const JsonFields step, JsonFields::Of(value, "normalizer."));
    KVEC_ASSIGN_OR_RETURN(const std::string type, step.String("type"));
    if (type == "Sequence") return ForEach(step, "normalizers", &StepsReader::AddNormalizer);
    if (type == "NFC") {
      steps_.normalizer.push_back({NormalizerStep::Kind::kNfc});
      return absl::OkStatus();
    }
    if (type == "Replace") {
      KVEC_ASSIGN_OR_RETURN(std::string pattern, LiteralPattern(step));
      if (pattern.empty()) return absl::InvalidArgumentError("normalizer.pattern: empty");
      KVEC_ASSIGN_OR_RETURN(std::string content, step.String("content"));
      steps_.normalizer.push_back(
          {NormalizerStep::Kind::kReplace, std::move(pattern), std::move(content)});
      return absl::OkStatus();
    }
    if (type == "Prepend") {
      KVEC_ASSIGN_OR_RETURN(std::string content, step.String("prepend"));
      steps_.normalizer.push_back({NormalizerStep::Kind::kPrepend, "", std::move(content)});
      return absl::OkStatus();
    }
    return Unsupported("normalizer", type, "NFC, Replace, Prepend, Sequence");
  }

  absl::Status AddPreTokenizer(const json& value) {
    KVEC_ASSIGN_OR_RETURN(const JsonFields step, JsonFields::Of(value, "pre_tokenizer."));
    KVEC_ASSIGN_OR_RETURN(const std::string type, step.String("type"));
    if (type == "Sequence") return ForEach(step, "pretokenizers", &StepsReader::AddPreTokenizer);
    if (type == "ByteLevel") return AddByteLevel(step);
    if (type == "Split") return AddSplit(step);
    if (type == "Metaspace") return AddMetaspace(step);
    if (type == "Digits") {
      KVEC_ASSIGN_OR_RETURN(const bool individual, step.BoolOr("individual_digits", false));
      steps_.rules.push_back({individual ? "\\p{N}" : "\\p{N}+"});
      return absl::OkStatus();
    }
    return Unsupported("pre_tokenizer", type, "ByteLevel, Split, Metaspace, Digits, Sequence");
  }

  TokenizerJsonSteps TakeSteps() { return std::move(steps_); }

 private:
  absl::Status ForEach(const JsonFields& sequence, absl::string_view field,
                       absl::Status (StepsReader::*add)(const json&)) {
    const json* steps = sequence.Find(field);
    if (steps == nullptr || !steps->is_array()) {
      return sequence.WrongValue(field, steps == nullptr ? json() : *steps, "an array");
    }
    for (const json& step : *steps) KVEC_RETURN_IF_ERROR((this->*add)(step));
    return absl::OkStatus();
  }

  absl::Status AddByteLevel(const JsonFields& step) {
    KVEC_ASSIGN_OR_RETURN(const bool add_prefix_space, step.BoolOr("add_prefix_space", true));
    KVEC_ASSIGN_OR_RETURN(const bool use_regex, step.BoolOr("use_regex", true));
    if (add_prefix_space) return Unsupported("ByteLevel.add_prefix_space", "true", "false");
    if (use_regex) steps_.rules.push_back({kGpt2Pattern});
    steps_.is_byte_level = true;
    return absl::OkStatus();
  }

  absl::Status AddSplit(const JsonFields& step) {
    KVEC_ASSIGN_OR_RETURN(const JsonFields pattern, step.Object("pattern"));
    SplitRule rule;
    if (pattern.Has("Regex")) {
      KVEC_ASSIGN_OR_RETURN(rule.pattern, pattern.String("Regex"));
    } else {
      KVEC_ASSIGN_OR_RETURN(const std::string literal, pattern.String("String"));
      rule.pattern = EscapeRegex(literal);
    }
    KVEC_ASSIGN_OR_RETURN(const std::string behavior, step.String("behavior"));
    KVEC_ASSIGN_OR_RETURN(const bool invert, step.BoolOr("invert", false));
    using Behavior = SplitRule::Behavior;
    if (behavior == "Isolated") {  // inverted it is the same: both kinds are pieces
      rule.behavior = Behavior::kIsolated;
    } else if (behavior == "Removed") {
      rule.behavior = invert ? Behavior::kRemoveGaps : Behavior::kRemoveMatches;
    } else if (behavior == "MergedWithPrevious" && !invert) {
      rule.behavior = Behavior::kMergedWithPrevious;
    } else if (behavior == "MergedWithNext" && !invert) {
      rule.behavior = Behavior::kMergedWithNext;
    } else {
      return Unsupported("Split.behavior", absl::StrCat(behavior, invert ? ", inverted" : ""),
                         "Isolated, Removed, both also inverted; MergedWithPrevious, "
                         "MergedWithNext");
    }
    steps_.rules.push_back(std::move(rule));
    return absl::OkStatus();
  }

  absl::Status AddMetaspace(const JsonFields& step) {
    KVEC_ASSIGN_OR_RETURN(const std::string replacement, step.String("replacement"));
    // Older files say add_prefix_space instead.
    KVEC_ASSIGN_OR_RETURN(const bool add_prefix_space, step.BoolOr("add_prefix_space", true));
    KVEC_ASSIGN_OR_RETURN(const std::string scheme,
                          step.StringOr("prepend_scheme", add_prefix_space ? "always" : "never"));
    KVEC_ASSIGN_OR_RETURN(const bool split, step.BoolOr("split", true));
    if (!steps_.rules.empty()) {  // it changes text, which here only happens before the first cut
      return Unsupported("pre_tokenizer", "Metaspace behind another one", "Metaspace first");
    }
    using Kind = NormalizerStep::Kind;
    steps_.normalizer.push_back({Kind::kReplace, " ", replacement});
    if (scheme == "always") {
      steps_.normalizer.push_back({Kind::kPrependUnlessThere, "", replacement});
    } else if (scheme == "first") {
      steps_.normalizer.push_back({Kind::kPrependUnlessThereAtStart, "", replacement});
    } else if (scheme != "never") {
      return Unsupported("Metaspace.prepend_scheme", scheme, "always, first, never");
    }
    if (split) {
      steps_.rules.push_back({EscapeRegex(replacement), SplitRule::Behavior::kMergedWithNext});
    }
    return absl::OkStatus();
  }

  TokenizerJsonSteps steps_;
};

}  // namespace

absl::StatusOr<TokenizerJsonSteps> ReadTokenizerJsonSteps(const json& normalizer,
                                                          const json& pre_tokenizer) {
  StepsReader reader;
  if (!normalizer.is_null()) KVEC_RETURN_IF_ERROR(reader.AddNormalizer(normalizer));
  if (!pre_tokenizer.is_null()) KVEC_RETURN_IF_ERROR(reader.AddPreTokenizer(pre_tokenizer));
  return reader.TakeSteps();
}

}  // namespace kvec::coordinator::text
