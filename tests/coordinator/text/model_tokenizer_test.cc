// Tokenizers of real models' files, against what other implementations made of the same texts.
#include <gtest/gtest.h>

#include <cstdlib>

#include "common/model/model_files.h"
#include "coordinator/text/tokenizer.h"
#include "tests/coordinator/text/small_vocabularies.h"

namespace kvec::coordinator::text {
namespace {

using json = nlohmann::ordered_json;

void ExpectIds(const Tokenizer& tokenizer, const std::string& text,
               const std::vector<int32_t>& expected) {
  const auto ids = tokenizer.Encode(text, {.add_special = false});
  ASSERT_TRUE(ids.ok()) << ids.status();
  EXPECT_EQ(*ids, expected) << text;
}

class ModelTokenizerTest : public ::testing::Test {
 protected:
  // False if `variable` does not name a file.
  bool Open(const char* variable) {
    const char* path = std::getenv(variable);
    if (path == nullptr) return false;
    auto files = ModelFiles::Open(path);
    EXPECT_TRUE(files.ok()) << files.status();
    if (files.ok()) data_ = (*files)->tokenizer();
    return files.ok();
  }
  TokenizerData data_;
};

TEST_F(ModelTokenizerTest, Smollm2EqualsTheGoldens) {
  if (!Open("KVEC_SMOLLM2_GGUF")) GTEST_SKIP() << "KVEC_SMOLLM2_GGUF is not set";
  const auto tokenizer = MakeTokenizer(data_);
  for (const json& golden : ReadData("smollm2_tokenize.json")) {
    ExpectIds(*tokenizer, golden["text"], golden["ids"]);
    EXPECT_EQ(tokenizer->Decode(golden["ids"].get<std::vector<int32_t>>(), false), golden["text"]);
  }
}

TEST_F(ModelTokenizerTest, Gemma3EqualsTheGoldens) {
  if (!Open("KVEC_GEMMA3_GGUF")) GTEST_SKIP() << "KVEC_GEMMA3_GGUF is not set";
  const auto tokenizer = MakeTokenizer(data_);
  for (const json& golden : ReadData("gemma3_tokenize.json")) {
    ExpectIds(*tokenizer, golden["text"], golden["ids"]);
    EXPECT_EQ(tokenizer->Decode(golden["ids"].get<std::vector<int32_t>>(), false), golden["text"]);
  }
  const auto with_bos = tokenizer->Encode("", {});
  ASSERT_TRUE(with_bos.ok());
  EXPECT_EQ(*with_bos, std::vector<int32_t>{2});
}

TEST_F(ModelTokenizerTest, EveryFamilysPreTokenizerEqualsHuggingFacesFromGgufAndFromJson) {
  if (!Open("KVEC_SMOLLM2_GGUF")) GTEST_SKIP() << "KVEC_SMOLLM2_GGUF is not set";
  const json goldens = ReadData("tokenize_goldens.json");
  for (const auto& [name, ids] : goldens["smollm2"].items()) {
    data_.pre_tokenizer = name;
    const auto tokenizer = MakeTokenizer(data_);
    for (size_t i = 0; i < ids.size(); ++i) ExpectIds(*tokenizer, goldens["texts"][i], ids[i]);
  }
  TokenizerData from_json;
  from_json.tokenizer_json = ByteLevelTokenizerJson(data_).dump();
  const auto tokenizer = MakeTokenizer(from_json);  // ByteLevel: GPT-2's pattern
  const json& ids = goldens["smollm2"]["gpt-2"];
  for (size_t i = 0; i < ids.size(); ++i) ExpectIds(*tokenizer, goldens["texts"][i], ids[i]);
}

TEST_F(ModelTokenizerTest, SentencePieceEqualsHuggingFaces) {
  if (!Open("KVEC_GEMMA3_GGUF")) GTEST_SKIP() << "KVEC_GEMMA3_GGUF is not set";
  const json goldens = ReadData("tokenize_goldens.json");
  const auto tokenizer = MakeTokenizer(data_);
  for (size_t i = 0; i < goldens["texts"].size(); ++i) {
    ExpectIds(*tokenizer, goldens["texts"][i], goldens["gemma3"][i]);
  }
}

}  // namespace
}  // namespace kvec::coordinator::text
