// What is written is read again by our own reader of tokenizer.json, which is checked against
// Hugging Face's but looks for user-defined tokens where spaces are spaces still, so Gemma's, which
// have some, are not found by it. tests/integration/gateway_test.py lets the gateway read real
// models' files.
#include "coordinator/text/tokenizer_json_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "common/model/model_files.h"
#include "nlohmann/json.hpp"
#include "tests/coordinator/text/small_vocabularies.h"

namespace kvec::coordinator::text {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A tokenizer of the file that is written for `data`.
std::unique_ptr<Tokenizer> Rewritten(const TokenizerData& data) {
  const absl::StatusOr<std::string> written = WriteTokenizerJson(data);
  EXPECT_TRUE(written.ok()) << written.status();
  TokenizerData copy;
  copy.tokenizer_json = written.value_or("");
  copy.bos_id = data.bos_id;
  copy.eos_ids = data.eos_ids;
  copy.add_bos = data.add_bos;
  return MakeTokenizer(copy);
}

void ExpectSameIds(const TokenizerData& data, int num_texts) {
  const auto expected = MakeTokenizer(data);
  const auto rewritten = Rewritten(data);
  ASSERT_NE(rewritten, nullptr);
  std::mt19937 generator(17);
  for (int i = 0; i < num_texts; ++i) {
    const std::string text = RandomText(generator, 1 + i % 40);
    ASSERT_EQ(rewritten->Encode(text, {}).value(), expected->Encode(text, {}).value()) << text;
  }
}

TEST(TokenizerJsonWriterTest, ByteLevelVocabulariesGiveTheSameIdsForEveryPreTokenizer) {
  for (const char* pre_tokenizer : {"gpt-2", "smollm", "llama-bpe", "dbrx", "qwen2", "tekken"}) {
    SCOPED_TRACE(pre_tokenizer);
    TokenizerData data = SmallByteLevelData();
    data.pre_tokenizer = pre_tokenizer;
    data.add_bos = true;
    ExpectSameIds(data, 500);
  }
}

TEST(TokenizerJsonWriterTest, SentencePieceVocabulariesGiveTheSameIds) {
  TokenizerData data = SmallSentencePieceData();
  data.add_space_prefix = true;
  ExpectSameIds(data, 500);
  data.add_space_prefix = false;
  data.tokens.emplace_back("<think>");
  data.token_types.push_back(TokenizerData::kUserDefined);
  data.scores.push_back(0);
  ExpectSameIds(data, 500);
}

TEST(TokenizerJsonWriterTest, SentencePieceWithoutBytePiecesHasUnknowns) {
  TokenizerData data = SmallSentencePieceData();
  for (int32_t& type : data.token_types) {
    if (type == TokenizerData::kByte) type = TokenizerData::kNormal;
  }
  ExpectSameIds(data, 500);
}

TEST(TokenizerJsonWriterTest, ARealModelGivesTheSameIds) {
  const char* path = std::getenv("KVEC_SMOLLM2_GGUF");
  if (path == nullptr) GTEST_SKIP() << "KVEC_SMOLLM2_GGUF is not set";
  const auto files = ModelFiles::Open(path);
  ASSERT_TRUE(files.ok()) << files.status();
  ExpectSameIds((*files)->tokenizer(), 500);
}

TEST(TokenizerJsonWriterTest, MergesOfSentencePieceAreOrderedByScore) {
  const json document = json::parse(*WriteTokenizerJson(SmallSentencePieceData()));
  EXPECT_THAT(document["model"]["merges"],
              ElementsAre(json({"a", "b"}), json({"\xE2\x96\x81", "a"})));
}

TEST(TokenizerJsonWriterTest, PutsBosAndEosWhereTheModelAsksForThem) {
  TokenizerData data = SmallByteLevelData();
  EXPECT_TRUE(json::parse(*WriteTokenizerJson(data))["post_processor"].is_null());
  data.add_bos = data.add_eos = true;
  const json processor = json::parse(*WriteTokenizerJson(data))["post_processor"];
  ASSERT_EQ(processor["single"].size(), 3);
  EXPECT_EQ(processor["single"][0]["SpecialToken"]["id"], "<|bos|>");
  EXPECT_EQ(processor["single"][1]["Sequence"]["id"], "A");
  EXPECT_EQ(processor["single"][2]["SpecialToken"]["id"], "<|end|>");
  EXPECT_EQ(processor["special_tokens"]["<|bos|>"]["ids"], json({263}));
}

TEST(TokenizerJsonWriterTest, EscapesAndLeavesOutWhatIsNoText) {
  TokenizerData data = SmallByteLevelData();
  data.tokens.insert(data.tokens.end(), {"\"quoted\\\n\"", "\xFF\xFE"});
  data.token_types.insert(data.token_types.end(),
                          {TokenizerData::kUserDefined, TokenizerData::kNormal});
  const json document = json::parse(*WriteTokenizerJson(data));
  EXPECT_EQ(document["model"]["vocab"]["\"quoted\\\n\""], 266);
  EXPECT_EQ(document["model"]["vocab"].size(), data.tokens.size() - 1);
  ExpectSameIds(data, 100);
}

TEST(TokenizerJsonWriterTest, AFoldersOwnFileStaysAsItIs) {
  TokenizerData data;
  data.tokenizer_json = ByteLevelTokenizerJson(SmallByteLevelData()).dump(2);
  EXPECT_EQ(*WriteTokenizerJson(data), data.tokenizer_json);
}

TEST(TokenizerJsonWriterTest, RefusesWhatNoTokenizerCanBeMadeOf) {
  TokenizerData data = SmallByteLevelData();
  data.pre_tokenizer = "no-such";
  const absl::Status status = WriteTokenizerJson(data).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("no-such"));
}

}  // namespace
}  // namespace kvec::coordinator::text
