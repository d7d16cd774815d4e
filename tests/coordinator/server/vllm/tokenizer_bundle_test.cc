#include "coordinator/server/vllm/tokenizer_bundle.h"

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/coordinator/server/vllm/archive_reader.h"
#include "tests/coordinator/text/small_vocabularies.h"

namespace kvec::coordinator::server::vllm {
namespace {

using nlohmann::json;

TEST(TokenizerBundleTest, HasTheThreeFilesThatAGatewayReads) {
  TokenizerData data = text::SmallByteLevelData();
  data.chat_template = "{{ messages }}";
  data.add_bos = true;
  ModelConfig config;
  config.family = ModelFamily::kQwen2;
  config.context_length = 1234;
  config.vocab_size = 300;
  const auto tokenizer = text::MakeTokenizer(data);
  const auto bundle = MakeTokenizerBundle(data, *tokenizer, config);
  ASSERT_TRUE(bundle.ok()) << bundle.status();
  const auto files = ReadArchive(*bundle);
  ASSERT_EQ(files.size(), 3);

  const json tokenizer_config = json::parse(files.at("tokenizer_config.json"));
  EXPECT_EQ(tokenizer_config["bos_token"], "<|bos|>");
  EXPECT_EQ(tokenizer_config["eos_token"], "<|end|>");
  EXPECT_EQ(tokenizer_config["chat_template"], "{{ messages }}");
  EXPECT_EQ(tokenizer_config["model_max_length"], 1234);
  EXPECT_EQ(tokenizer_config["add_bos_token"], true);

  const json model_config = json::parse(files.at("config.json"));
  EXPECT_EQ(model_config["model_type"], "qwen2");
  EXPECT_EQ(model_config["architectures"], json({"Qwen2ForCausalLM"}));
  EXPECT_EQ(model_config["vocab_size"], 300);
  EXPECT_EQ(model_config["bos_token_id"], 263);
  EXPECT_EQ(model_config["eos_token_id"], json({264}));

  TokenizerData read;
  read.tokenizer_json = files.at("tokenizer.json");
  EXPECT_EQ(text::MakeTokenizer(read)->Encode("hello world", {}).value(),
            tokenizer->Encode("hello world", {.add_special = false}).value());
}

TEST(TokenizerBundleTest, LeavesOutWhatTheModelDoesNotHave) {
  TokenizerData data = text::SmallByteLevelData();
  data.bos_id.reset();
  data.eos_ids.clear();
  const auto files =
      ReadArchive(*MakeTokenizerBundle(data, *text::MakeTokenizer(data), ModelConfig()));
  const json tokenizer_config = json::parse(files.at("tokenizer_config.json"));
  EXPECT_FALSE(tokenizer_config.contains("bos_token"));
  EXPECT_FALSE(tokenizer_config.contains("eos_token"));
  EXPECT_FALSE(tokenizer_config.contains("chat_template"));
  EXPECT_FALSE(json::parse(files.at("config.json")).contains("eos_token_id"));
}

}  // namespace
}  // namespace kvec::coordinator::server::vllm
