#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/text/byte_piece.h"
#include "coordinator/text/tokenizer.h"
#include "tests/coordinator/text/small_vocabularies.h"

namespace kvec::coordinator::text {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TokenizerData JsonData(const json& document) {
  TokenizerData data;
  data.tokenizer_json = document.dump();
  return data;
}

// <unk>, a, b, ab, U+2581 and U+2581 a, and bytes from id 10 on.
json MetaspaceTokenizerJson() {
  const std::string space(kSpaceSymbol);
  json vocab = {{"<unk>", 0}, {"a", 1}, {"b", 2}, {"ab", 3}, {space, 4}, {space + "a", 5}};
  for (int byte = 0; byte < 256; ++byte) vocab[BytePiece(static_cast<uint8_t>(byte))] = 10 + byte;
  return {{"pre_tokenizer",
           {{"type", "Metaspace"},
            {"replacement", space},
            {"prepend_scheme", "first"},
            {"split", false}}},
          {"added_tokens", {{{"id", 266}, {"content", "<s>"}, {"special", true}}}},
          {"model",
           {{"type", "BPE"},
            {"byte_fallback", true},
            {"unk_token", "<unk>"},
            {"vocab", vocab},
            {"merges", {"a b", space + " a"}}}}};
}

TEST(TokenizerJsonTest, EqualsTheSameVocabularyFromGguf) {
  const TokenizerData gguf = SmallByteLevelData();
  const auto expected = MakeTokenizer(gguf);
  const auto tokenizer = MakeTokenizer(JsonData(ByteLevelTokenizerJson(gguf)));
  ASSERT_EQ(tokenizer->vocab_size(), expected->vocab_size());
  for (int32_t id = 0; id < tokenizer->vocab_size(); ++id) {
    EXPECT_EQ(tokenizer->TokenBytes(id), expected->TokenBytes(id));
    EXPECT_EQ(tokenizer->IsSpecial(id), expected->IsSpecial(id));
  }
  std::mt19937 generator(9);
  for (int round = 0; round < 100; ++round) {
    const std::string text = RandomText(generator, 30);
    EXPECT_EQ(*tokenizer->Encode(text, {}), *expected->Encode(text, {}));
  }
}

TEST(TokenizerJsonTest, TakesIdsAndBosFromTheOtherFiles) {
  TokenizerData data = JsonData(ByteLevelTokenizerJson(SmallByteLevelData()));
  data.bos_id = 263;
  data.add_bos = true;
  data.eos_ids = {264};
  const auto tokenizer = MakeTokenizer(data);
  EXPECT_THAT(*tokenizer->Encode("a", {}), ElementsAre(263, 'a'));
  EXPECT_THAT(tokenizer->eos_ids(), ElementsAre(264));
}

TEST(TokenizerJsonTest, ReadsSentencePieceStyleVocabularies) {
  const auto tokenizer = MakeTokenizer(JsonData(MetaspaceTokenizerJson()));
  EXPECT_THAT(*tokenizer->Encode("a ab<s>ab\n", {}), ElementsAre(5, 4, 3, 266, 3, 10 + '\n'));
  EXPECT_EQ(tokenizer->Decode(*tokenizer->Encode("a ab\xC3\xA9", {}), true), "a ab\xC3\xA9");
}

TEST(TokenizerJsonTest, FusesUnknownCharactersWhereAsked) {
  json document = MetaspaceTokenizerJson();
  document["model"]["byte_fallback"] = false;
  EXPECT_THAT(*MakeTokenizer(JsonData(document))->Encode(" xyb", {}), ElementsAre(4, 0, 0, 2));
  document["model"]["fuse_unk"] = true;
  EXPECT_THAT(*MakeTokenizer(JsonData(document))->Encode(" xyb", {}), ElementsAre(4, 0, 2));
}

struct BadJson {
  const char* message;
  void (*spoil)(json&);
};

TEST(TokenizerJsonTest, NamesWhatItDoesNotSupportOrUnderstand) {
  const BadJson cases[] = {
      {"model.type \"Unigram\"", [](json& j) { j["model"]["type"] = "Unigram"; }},
      {"end_of_word_suffix", [](json& j) { j["model"]["end_of_word_suffix"] = "</w>"; }},
      {"normalizer \"Lowercase\" is not supported; known: NFC",
       [](json& j) {
         j["normalizer"] = {{"type", "Lowercase"}};
       }},
      {"normalizer.type", [](json& j) { j["normalizer"] = json::object(); }},
      {"normalizers",
       [](json& j) {
         j["normalizer"] = {{"type", "Sequence"}};
       }},
      {"pre_tokenizer \"Whitespace\"",
       [](json& j) {
         j["pre_tokenizer"] = {{"type", "Whitespace"}};
       }},
      {"add_prefix_space", [](json& j) { j["pre_tokenizer"]["add_prefix_space"] = true; }},
      {"pattern \"(\"",
       [](json& j) {
         j["pre_tokenizer"] = {
             {"type", "Split"}, {"pattern", {{"Regex", "("}}}, {"behavior", "Isolated"}};
       }},
      {"Split.behavior \"Contiguous\"",
       [](json& j) {
         j["pre_tokenizer"] = {
             {"type", "Split"}, {"pattern", {{"String", "x"}}}, {"behavior", "Contiguous"}};
       }},
      {"added_tokens[0].lstrip", [](json& j) { j["added_tokens"][0]["lstrip"] = true; }},
      {"added_tokens", [](json& j) { j["added_tokens"] = 7; }},
      {"the largest id is 2000000000", [](json& j) { j["added_tokens"][0]["id"] = 2000000000; }},
      {"vocab: an id is -1", [](json& j) { j["model"]["vocab"]["zz"] = -1; }},
      {"vocab: the id of \"zz\" is 4294967296",
       [](json& j) { j["model"]["vocab"]["zz"] = 4294967296; }},
      {"vocab: the id of \"zz\" is no id", [](json& j) { j["model"]["vocab"]["zz"] = "7"; }},
      {"model.merges[7]: \"q\" and \"u\"",
       [](json& j) {
         j["model"]["merges"].push_back({"q", "u"});
       }},
      {"merges[7] is not two", [](json& j) { j["model"]["merges"].push_back({"q"}); }},
      {"merges[8] is more than two",
       [](json& j) {
         j["model"]["merges"].push_back({"a", "a", "a"});
       }},
      {"merges[7] is not two", [](json& j) { j["model"]["merges"].push_back("qu"); }},
      {"merges[7] is not two", [](json& j) { j["model"]["merges"].push_back(7); }},
      {"merges[7] is nested", [](json& j) { j["model"]["merges"].push_back({json::array()}); }},
      {"vocab is empty",
       [](json& j) {
         j["model"]["vocab"] = json::object();
         j["model"]["merges"] = json::array();
         j["added_tokens"] = json::array();
       }},
      {"model is null", [](json& j) { j["model"] = 5; }},
  };
  for (const BadJson& bad : cases) {
    json document = ByteLevelTokenizerJson(SmallByteLevelData());
    bad.spoil(document);
    const auto tokenizer = Tokenizer::Create(JsonData(document));
    EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument) << bad.message;
    EXPECT_THAT(tokenizer.status().message(), HasSubstr(bad.message));
  }
}

TEST(TokenizerJsonTest, SurvivesEveryPrefixAndRandomBytes) {
  const std::string good = ByteLevelTokenizerJson(SmallByteLevelData()).dump();
  TokenizerData data;
  for (size_t size = 1; size < good.size(); size += 7) {
    data.tokenizer_json = good.substr(0, size);
    EXPECT_FALSE(Tokenizer::Create(data).ok());
  }
  std::mt19937 generator(10);
  for (int round = 0; round < 500; ++round) {
    data.tokenizer_json = good;
    data.tokenizer_json[generator() % good.size()] = static_cast<char>(generator());
    const auto tokenizer = Tokenizer::Create(data);
    if (!tokenizer.ok()) continue;
    EXPECT_TRUE((*tokenizer)->Encode("hello <think> 12", {}).ok());
  }
}

}  // namespace
}  // namespace kvec::coordinator::text
