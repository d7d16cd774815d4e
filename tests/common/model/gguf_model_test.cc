#include <sys/stat.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "common/model/model_files.h"
#include "common/tensor/dequantize.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/common/model/temp_folder.h"
#include "tests/common/model/tiny_gguf.h"

namespace kvec {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class GgufModelTest : public testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<ModelFiles>> Open(const GgufWriter& writer) const {
    return ModelFiles::Open(folder_.Write("model.gguf", writer.Build()));
  }

  TempFolder folder_;
};

TEST_F(GgufModelTest, OpensEveryFamily) {
  for (const ModelFamily family :
       {ModelFamily::kLlama, ModelFamily::kQwen2, ModelFamily::kQwen3, ModelFamily::kGemma3}) {
    const auto model = Open(TinyGguf(family));
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ((*model)->config().family, family);
    EXPECT_EQ((*model)->tokenizer().tokens.size(), 12u);
  }
}

TEST_F(GgufModelTest, FindsTensorsByName) {
  const auto model = Open(TinyGguf(ModelFamily::kLlama));
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE((*model)->HasTensor("blk.1.ffn_down.weight"));
  const absl::StatusOr<FileTensor> tensor = (*model)->FindTensor("blk.1.ffn_down.weight");
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  EXPECT_THAT(tensor->shape, ElementsAre(8, 16));
  std::vector<float> values(8 * 16);
  Dequantize(tensor->type, tensor->data, absl::MakeSpan(values));
  EXPECT_FLOAT_EQ(values[1] - values[0], 1.0f / 1024.0f);

  EXPECT_FALSE((*model)->HasTensor("blk.2.ffn_down.weight"));
  const absl::Status missing = (*model)->FindTensor("blk.2.ffn_down.weight").status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()), HasSubstr("blk.2.ffn_down.weight"));
}

TEST_F(GgufModelTest, DataIsThereAgainAfterItsPagesWereReleased) {
  const auto model = Open(TinyGguf(ModelFamily::kLlama));
  ASSERT_TRUE(model.ok()) << model.status();
  const FileTensor tensor = *(*model)->FindTensor("token_embd.weight");
  const std::vector<uint8_t> before(tensor.data.begin(), tensor.data.end());
  (*model)->ReleasePages();
  EXPECT_EQ(std::vector<uint8_t>(tensor.data.begin(), tensor.data.end()), before);
}

TEST_F(GgufModelTest, FingerprintsOfEqualFilesAreEqualAndOfOthersDiffer) {
  const GgufWriter writer = TinyGguf(ModelFamily::kLlama);
  const std::string fingerprint = (*Open(writer))->fingerprint();
  EXPECT_EQ(fingerprint.size(), 64u);
  EXPECT_EQ((*Open(writer))->fingerprint(), fingerprint);

  GgufWriter other_weight = writer;
  other_weight.Find("blk.1.attn_k.weight").data[0] ^= 1;
  EXPECT_NE((*Open(other_weight))->fingerprint(), fingerprint);

  GgufWriter other_theta = writer;
  other_theta.Set("llama.rope.freq_base", Value(5001.0f));
  EXPECT_NE((*Open(other_theta))->fingerprint(), fingerprint);

  GgufWriter other_merges = writer;
  other_merges.Set("tokenizer.ggml.merges", ArrayValue(std::vector<std::string>{"c d", "a b"}));
  EXPECT_NE((*Open(other_merges))->fingerprint(), fingerprint);
}

TEST_F(GgufModelTest, RejectsAModelWithoutOneOfItsTensors) {
  for (const ModelFamily family :
       {ModelFamily::kLlama, ModelFamily::kQwen2, ModelFamily::kQwen3, ModelFamily::kGemma3}) {
    for (const GgufWriter::Tensor& tensor : TinyGguf(family).tensors) {
      if (tensor.name == "output.weight") continue;  // its absence means tied embeddings
      const absl::Status status = Open(TinyGguf(family).EraseTensor(tensor.name)).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << tensor.name;
      EXPECT_THAT(std::string(status.message()),
                  HasSubstr("tensor " + tensor.name + ": is missing"));
    }
  }
}

TEST_F(GgufModelTest, RejectsATensorOfAnotherShape) {
  GgufWriter writer = TinyGguf(ModelFamily::kLlama);
  writer.Find("blk.0.attn_k.weight").dims = {4, 16};
  EXPECT_THAT(std::string(Open(writer).status().message()),
              HasSubstr("tensor blk.0.attn_k.weight: has shape [16, 4], the configuration asks "
                        "for [8, 8]"));
}

TEST_F(GgufModelTest, RejectsAVocabularyOfAnotherSizeThanTheEmbedding) {
  GgufWriter writer = TinyGguf(ModelFamily::kLlama);
  writer.Set("llama.vocab_size", Value<uint32_t>(11));
  EXPECT_EQ(Open(writer).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(GgufModelTest, MessagesBeginWithThePath) {
  const absl::Status status = ModelFiles::Open(folder_.Write("x.gguf", "GGML")).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr(folder_.File("x.gguf") + ": magic"));
}

TEST_F(GgufModelTest, AMissingFileIsNotFound) {
  const absl::Status status = ModelFiles::Open(folder_.File("none.gguf")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("none.gguf"));
}

TEST_F(GgufModelTest, RejectsAnEmptyFileAndWhatIsNoFile) {
  EXPECT_THAT(std::string(ModelFiles::Open(folder_.Write("empty", "")).status().message()),
              HasSubstr("empty: file is empty"));
  // A pipe without a writer: opening it must not wait for one.
  ASSERT_EQ(mkfifo(folder_.File("pipe").c_str(), 0600), 0);
  EXPECT_THAT(std::string(ModelFiles::Open(folder_.File("pipe")).status().message()),
              HasSubstr("pipe: not a regular file"));
}

// Whatever a flipped bit does to the directory, the answer is a Status or a model whose tensors can
// all be read.
TEST_F(GgufModelTest, SurvivesRandomByteFlipsInTheHeader) {
  std::mt19937 random(20261124);
  for (const ModelFamily family : {ModelFamily::kLlama, ModelFamily::kGemma3}) {
    const GgufWriter writer = TinyGguf(family);
    const std::string whole = writer.Build();
    const size_t header_size = writer.BuildHeader().size();
    for (int i = 0; i < 1000; ++i) {
      std::string flipped = whole;
      const int num_flips = 1 + static_cast<int>(random() % 3);
      for (int flip = 0; flip < num_flips; ++flip) {
        flipped[random() % header_size] ^= static_cast<char>(1 + random() % 255);
      }
      const auto model = ModelFiles::Open(folder_.Write("flipped.gguf", flipped));
      if (!model.ok()) continue;
      for (const FileTensor& tensor : (*model)->tensors()) {
        int64_t num_elements = 1;
        for (const int64_t dim : tensor.shape) num_elements *= dim;
        std::vector<float> values(num_elements);
        Dequantize(tensor.type, tensor.data, absl::MakeSpan(values));
      }
    }
  }
}

}  // namespace
}  // namespace kvec
