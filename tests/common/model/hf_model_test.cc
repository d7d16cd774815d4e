#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/model/model_files.h"
#include "common/tensor/dequantize.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/common/model/temp_folder.h"
#include "tests/common/model/tiny_hf.h"

namespace kvec {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<float> ReadValues(const ModelFiles& model, absl::string_view name) {
  const absl::StatusOr<FileTensor> tensor = model.FindTensor(name);
  if (!tensor.ok()) {
    ADD_FAILURE() << tensor.status();
    return {};
  }
  int64_t num_elements = 1;
  for (const int64_t dimension : tensor->shape) num_elements *= dimension;
  std::vector<float> values(num_elements);
  Dequantize(tensor->type, tensor->data, absl::MakeSpan(values));
  return values;
}

std::vector<float> ValuesOf(const SafetensorsTensor& tensor) {
  std::vector<float> values(tensor.data.size() / sizeof(float));
  std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
  return values;
}

class HfModelTest : public testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<ModelFiles>> Open(const TinyHf& model) const {
    model.Write(folder_);
    return ModelFiles::Open(folder_.path());
  }
  // Two files and an index; `index` may be spoilt.
  void WriteSharded(const TinyHf& model, const nlohmann::json& index) const {
    model.Write(folder_);
    folder_.Remove("model.safetensors");
    const size_t half = model.tensors.size() / 2;
    folder_.Write("model-1.safetensors",
                  BuildSafetensors({model.tensors.begin(), model.tensors.begin() + half}));
    folder_.Write("model-2.safetensors",
                  BuildSafetensors({model.tensors.begin() + half, model.tensors.end()}));
    folder_.Write("model.safetensors.index.json", index.dump());
  }

  TempFolder folder_;
};

TEST_F(HfModelTest, OpensEveryFamily) {
  for (const char* model_type : {"llama", "mistral", "qwen2", "qwen3", "gemma3_text"}) {
    const auto model = Open(TinyHf(model_type));
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ((*model)->config().num_layers, 2);
    EXPECT_EQ((*model)->fingerprint().size(), 64u);
  }
}

TEST_F(HfModelTest, ServesTensorsUnderTheNamesOfGguf) {
  TinyHf tiny("llama");
  const auto model = Open(tiny);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_THAT((*model)->FindTensor("blk.1.attn_q.weight")->shape, ElementsAre(16, 8));
  EXPECT_EQ(ReadValues(**model, "blk.1.attn_q.weight"),
            ValuesOf(tiny.Find("model.layers.1.self_attn.q_proj.weight")));
  EXPECT_EQ(ReadValues(**model, "output_norm.weight"), ValuesOf(tiny.Find("model.norm.weight")));
  EXPECT_FALSE((*model)->HasTensor("model.norm.weight"));
}

TEST_F(HfModelTest, ServesTheNormsOfGemma3PlusOne) {
  TinyHf tiny("gemma3_text");
  const auto model = Open(tiny);
  ASSERT_TRUE(model.ok()) << model.status();
  const struct {
    const char* hf;
    const char* gguf;
  } kNorms[] = {
      {"model.layers.1.input_layernorm.weight", "blk.1.attn_norm.weight"},
      {"model.layers.1.self_attn.q_norm.weight", "blk.1.attn_q_norm.weight"},
      {"model.layers.1.self_attn.k_norm.weight", "blk.1.attn_k_norm.weight"},
      {"model.layers.1.post_attention_layernorm.weight", "blk.1.post_attention_norm.weight"},
      {"model.layers.1.pre_feedforward_layernorm.weight", "blk.1.ffn_norm.weight"},
      {"model.layers.1.post_feedforward_layernorm.weight", "blk.1.post_ffw_norm.weight"},
      {"model.norm.weight", "output_norm.weight"},
  };
  for (const auto& norm : kNorms) {
    std::vector<float> expected = ValuesOf(tiny.Find(norm.hf));
    for (float& value : expected) value += 1.0f;
    EXPECT_EQ(ReadValues(**model, norm.gguf), expected) << norm.gguf;
  }
  EXPECT_EQ(ReadValues(**model, "blk.1.attn_q.weight"),
            ValuesOf(tiny.Find("model.layers.1.self_attn.q_proj.weight")));
}

TEST_F(HfModelTest, ReadsShardsByTheIndexAndWithoutOne) {
  const TinyHf tiny("llama");
  const std::string fingerprint = (*Open(tiny))->fingerprint();
  WriteSharded(tiny,
               {{"weight_map", {{"a", "model-1.safetensors"}, {"b", "model-2.safetensors"}}}});
  auto model = ModelFiles::Open(folder_.path());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->fingerprint(), fingerprint);
  folder_.Remove("model.safetensors.index.json");
  model = ModelFiles::Open(folder_.path());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->fingerprint(), fingerprint);
}

TEST_F(HfModelTest, IgnoresTheSameWeightsInAnotherLayout) {
  const TinyHf tiny("mistral");
  folder_.Write("consolidated.safetensors", BuildSafetensors(tiny.tensors));
  EXPECT_TRUE(Open(tiny).ok());
}

TEST_F(HfModelTest, ReadsAnOutputMatrixOnlyWhenItIsNotTied) {
  TinyHf tiny("llama");
  tiny.tensors.push_back(
      {"lm_head.weight", "F32", {12, 8}, std::string(12 * 8 * sizeof(float), '\1')});
  auto model = Open(tiny);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_FALSE((*model)->HasTensor("output.weight"));
  tiny.config["tie_word_embeddings"] = false;
  model = Open(tiny);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE((*model)->HasTensor("output.weight"));
  tiny.tensors.pop_back();
  EXPECT_THAT(std::string(Open(tiny).status().message()),
              HasSubstr("tensor output.weight: is missing"));
}

TEST_F(HfModelTest, FilesOfTheFolderMustBeThere) {
  const TinyHf tiny("llama");
  for (const char* name : {"config.json", "tokenizer.json", "model.safetensors"}) {
    tiny.Write(folder_);
    folder_.Remove(name);
    EXPECT_EQ(ModelFiles::Open(folder_.path()).status().code(), absl::StatusCode::kNotFound)
        << name;
  }
}

TEST_F(HfModelTest, RejectsAnIndexThatLeavesTheFolder) {
  for (const char* name : {"../model-1.safetensors", "/etc/x.safetensors", "model-1.bin", ""}) {
    WriteSharded(TinyHf("llama"), {{"weight_map", {{"a", name}}}});
    const absl::Status status = ModelFiles::Open(folder_.path()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("weight_map"));
  }
}

TEST_F(HfModelTest, RejectsAnIndexWithoutOneOfTheFiles) {
  WriteSharded(TinyHf("llama"), {{"weight_map", {{"a", "model-1.safetensors"}}}});
  EXPECT_THAT(std::string(ModelFiles::Open(folder_.path()).status().message()),
              HasSubstr(": is missing"));
  WriteSharded(TinyHf("llama"), {{"weight_map", {{"a", "model-3.safetensors"}}}});
  EXPECT_EQ(ModelFiles::Open(folder_.path()).status().code(), absl::StatusCode::kNotFound);
  WriteSharded(TinyHf("llama"), {{"weight_map", 5}});
  EXPECT_THAT(std::string(ModelFiles::Open(folder_.path()).status().message()),
              HasSubstr("weight_map: is 5, must be an object"));
}

TEST_F(HfModelTest, RejectsATensorInTwoFiles) {
  const TinyHf tiny("llama");
  WriteSharded(tiny,
               {{"weight_map", {{"a", "model-1.safetensors"}, {"b", "model-2.safetensors"}}}});
  folder_.Write("model-2.safetensors", BuildSafetensors(tiny.tensors));
  EXPECT_THAT(std::string(ModelFiles::Open(folder_.path()).status().message()),
              HasSubstr("name is there twice"));
}

TEST_F(HfModelTest, RejectsTensorsOfAnotherShapeOrType) {
  TinyHf tiny("llama");
  tiny.Find("model.layers.0.mlp.up_proj.weight").shape = {8, 16};
  EXPECT_THAT(std::string(Open(tiny).status().message()),
              HasSubstr("tensor blk.0.ffn_up.weight: has shape [8, 16], the configuration asks for "
                        "[16, 8]"));
  tiny = TinyHf("llama");
  tiny.Find("model.layers.0.mlp.up_proj.weight").dtype = "F8_E4M3";
  EXPECT_THAT(std::string(Open(tiny).status().message()), HasSubstr("known: F32, F16, BF16"));
}

TEST_F(HfModelTest, RejectsANormOfTwoDimensionsBeforeConvertingIt) {
  TinyHf tiny("gemma3_text");
  tiny.Find("model.norm.weight").shape = {2, 4};
  EXPECT_THAT(std::string(Open(tiny).status().message()),
              HasSubstr("tensor output_norm.weight: has shape [2, 4]"));
}

TEST_F(HfModelTest, SurvivesRandomByteFlipsInEveryFile) {
  std::mt19937 random(20261124);
  const TinyHf tiny("gemma3_text");
  const std::string header = BuildSafetensors(tiny.tensors).substr(0, 4000);
  for (int i = 0; i < 1000; ++i) {
    tiny.Write(folder_);
    std::string content;
    const char* name = "";
    switch (random() % 3) {
      case 0:
        name = "config.json";
        content = tiny.config.dump();
        break;
      case 1:
        name = "tokenizer.json";
        content = tiny.tokenizer.dump();
        break;
      default:
        name = "model.safetensors";
        content = BuildSafetensors(tiny.tensors);
    }
    content[random() % std::min(content.size(), header.size())] ^=
        static_cast<char>(1 + random() % 255);
    folder_.Write(name, content);
    const auto model = ModelFiles::Open(folder_.path());
    if (!model.ok()) continue;
    for (const FileTensor& tensor : (*model)->tensors()) ReadValues(**model, tensor.name);
  }
}

// The folders that transformers wrote for the tests of the model's arithmetic.
TEST(TransformersFoldersTest, AllOpen) {
  for (const char* name : {"llama", "llama3", "mistral", "qwen2", "qwen3", "gemma3"}) {
    const auto model =
        ModelFiles::Open(absl::StrCat(KVEC_SOURCE_DIR, "/tests/worker/model/tiny/", name));
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ((*model)->config().name, name);
    EXPECT_EQ((*model)->config().vocab_size, 300);
    EXPECT_THAT((*model)->tokenizer().eos_ids, ElementsAre(1));
  }
}

}  // namespace
}  // namespace kvec
