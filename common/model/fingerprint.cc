#include "common/model/fingerprint.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/model/error_text.h"
#include "common/model/sha256.h"

namespace kvec {
namespace {

// At a tensor's start, middle and end: a training step or another quantisation changes every one.
constexpr size_t kSampleBytes = 1024;

void AddConfig(const ModelConfig& config, Sha256& digest) {
  const auto rope_text = [](const RopeConfig& rope) {
    return absl::StrCat(rope.theta, "/", absl::StrJoin(rope.frequency_factors, ","));
  };
  digest.Add(
      absl::StrJoin({absl::StrCat(ModelFamilyName(config.family)), absl::StrCat(config.num_layers),
                     absl::StrCat(config.hidden_size), absl::StrCat(config.intermediate_size),
                     absl::StrCat(config.num_heads), absl::StrCat(config.num_kv_heads),
                     absl::StrCat(config.head_dim), absl::StrCat(config.vocab_size),
                     absl::StrCat(config.context_length), absl::StrCat(config.rms_norm_eps),
                     absl::StrCat(static_cast<int>(config.activation)),
                     absl::StrCat(static_cast<int>(config.rope_pairing)), rope_text(config.rope),
                     rope_text(config.local_rope), absl::StrJoin(config.sliding_windows, ","),
                     absl::StrCat(config.has_attention_bias, config.has_qk_norm,
                                  config.has_post_norms, config.tie_word_embeddings),
                     absl::StrCat(config.embedding_scale), absl::StrCat(config.attention_scale)},
                    " "));
}

void AddTokenizer(const TokenizerData& tokenizer, Sha256& digest) {
  for (const std::string& token : tokenizer.tokens) digest.Add(token);
  for (const std::string& merge : tokenizer.merges) digest.Add(merge);
  digest.Add(tokenizer.pre_tokenizer);
  digest.Add(tokenizer.tokenizer_json);
}

void AddTensor(const FileTensor& tensor, Sha256& digest) {
  digest.Add(tensor.name);
  digest.Add(GetTraits(tensor.type).name);
  digest.Add(ShapeText(tensor.shape));
  const size_t size = tensor.data.size();
  const size_t sample = std::min(kSampleBytes, size);
  for (const size_t start : {size_t{0}, (size - sample) / 2, size - sample}) {
    digest.Add(tensor.data.subspan(start, sample));
  }
}

}  // namespace

std::string Fingerprint(const ModelConfig& config, const TokenizerData& tokenizer,
                        absl::Span<const FileTensor> tensors) {
  Sha256 digest;
  AddConfig(config, digest);
  AddTokenizer(tokenizer, digest);
  for (const FileTensor& tensor : tensors) AddTensor(tensor, digest);
  return digest.Finish();
}

}  // namespace kvec
