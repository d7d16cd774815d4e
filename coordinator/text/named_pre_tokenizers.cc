#include "coordinator/text/named_pre_tokenizers.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace kvec::coordinator::text {

const char kGpt2Pattern[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

constexpr char kLlama3Pattern[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr char kQwen2Pattern[] = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
                                 R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr char kTekkenPattern[] =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

struct Entry {
  std::vector<absl::string_view> names;
  NamedPreTokenizer pre_tokenizer;
};

const std::vector<Entry>& Entries() {
  static const auto* const kEntries = new std::vector<Entry>{
      {{"gpt-2", "phi-2", "olmo", "mpt", "exaone4"}, {.rules = {{kGpt2Pattern}}}},
      {{"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"},
       {.rules = {{R"(\p{N})"}, {kGpt2Pattern}}}},
      {{"llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "lfm2"},
       {.rules = {{kLlama3Pattern}}, .ignore_merges = true}},
      {{"dbrx", "smaug-bpe"}, {.rules = {{kLlama3Pattern}}}},
      {{"qwen2", "deepseek-r1-qwen", "megrez"}, {.rules = {{kQwen2Pattern}}, .nfc = true}},
      {{"stablelm2"}, {.rules = {{kQwen2Pattern}}}},
      {{"tekken"}, {.rules = {{kTekkenPattern}}, .ignore_merges = true}},
  };
  return *kEntries;
}

}  // namespace

absl::StatusOr<NamedPreTokenizer> FindPreTokenizer(absl::string_view name) {
  std::vector<absl::string_view> known;
  for (const Entry& entry : Entries()) {
    for (const absl::string_view candidate : entry.names) {
      if (candidate == name) return entry.pre_tokenizer;
      known.push_back(candidate);
    }
  }
  std::sort(known.begin(), known.end());
  return absl::InvalidArgumentError(absl::StrCat("tokenizer.ggml.pre: unknown pre-tokenizer \"",
                                                 name, "\"; known are ",
                                                 absl::StrJoin(known, ", ")));
}

}  // namespace kvec::coordinator::text
