#include <cmath>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "common/model/model_files.h"
#include "common/tensor/dequantize.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

// Published models, where the environment says that they are there (tests/run.sh fetches them).

namespace kvec {
namespace {

using testing::ElementsAre;

std::unique_ptr<ModelFiles> OpenOrNull(const char* variable) {
  const char* path = std::getenv(variable);
  if (path == nullptr) return nullptr;
  auto model = ModelFiles::Open(path);
  EXPECT_TRUE(model.ok()) << model.status();
  return model.ok() ? *std::move(model) : nullptr;
}

// Sum of the magnitudes of all weights; the expected values are those of the GGUF project's
// decoder.
double SumOfMagnitudes(const ModelFiles& model) {
  double sum = 0;
  std::vector<float> row;
  for (const FileTensor& tensor : model.tensors()) {
    row.resize(tensor.shape.back());
    const size_t row_bytes = RowBytes(tensor.type, tensor.shape.back());
    for (size_t start = 0; start < tensor.data.size(); start += row_bytes) {
      Dequantize(tensor.type, tensor.data.subspan(start, row_bytes), absl::MakeSpan(row));
      for (const float value : row) sum += std::abs(value);
    }
  }
  return sum;
}

TEST(RealModelsTest, OpensSmolLm2) {
  if (std::getenv("KVEC_SMOLLM2_GGUF") == nullptr) GTEST_SKIP() << "KVEC_SMOLLM2_GGUF is not set";
  const std::unique_ptr<ModelFiles> model = OpenOrNull("KVEC_SMOLLM2_GGUF");
  ASSERT_NE(model, nullptr);
  const ModelConfig& config = model->config();
  EXPECT_EQ(config.family, ModelFamily::kLlama);
  EXPECT_EQ(config.num_layers, 30);
  EXPECT_EQ(config.hidden_size, 576);
  EXPECT_EQ(config.num_heads, 9);
  EXPECT_EQ(config.num_kv_heads, 3);
  EXPECT_EQ(config.head_dim, 64);
  EXPECT_EQ(config.vocab_size, 49152);
  EXPECT_EQ(config.context_length, 8192);
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_EQ(model->tokenizer().pre_tokenizer, "smollm");
  EXPECT_EQ(model->tokenizer().merges.size(), 48900u);
  EXPECT_THAT(model->tokenizer().eos_ids, ElementsAre(0, 2));
  EXPECT_NEAR(SumOfMagnitudes(*model), 18618625.801, 1.0);
}

TEST(RealModelsTest, OpensGemma3) {
  if (std::getenv("KVEC_GEMMA3_GGUF") == nullptr) GTEST_SKIP() << "KVEC_GEMMA3_GGUF is not set";
  const std::unique_ptr<ModelFiles> model = OpenOrNull("KVEC_GEMMA3_GGUF");
  ASSERT_NE(model, nullptr);
  const ModelConfig& config = model->config();
  EXPECT_EQ(config.family, ModelFamily::kGemma3);
  EXPECT_EQ(config.num_layers, 18);
  EXPECT_EQ(config.head_dim, 256);
  EXPECT_EQ(config.sliding_windows[4], 512);
  EXPECT_EQ(config.sliding_windows[5], 0);
  EXPECT_FLOAT_EQ(config.rope.theta, 1e6f);
  EXPECT_FLOAT_EQ(config.local_rope.theta, 1e4f);
  EXPECT_EQ(model->tokenizer().kind, TokenizerData::Kind::kSentencePieceBpe);
  EXPECT_THAT(model->tokenizer().eos_ids, ElementsAre(1, 106));
  EXPECT_TRUE(model->tokenizer().add_bos);
  EXPECT_NEAR(SumOfMagnitudes(*model), 9644536.393, 1.0);
}

}  // namespace
}  // namespace kvec
