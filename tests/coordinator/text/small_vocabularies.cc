#include "tests/coordinator/text/small_vocabularies.h"

#include <gtest/gtest.h>

#include <fstream>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "coordinator/text/byte_alphabet.h"
#include "coordinator/text/byte_piece.h"

namespace kvec::coordinator::text {
namespace {

std::string Utf8(uint32_t c) {
  const auto byte = [](uint32_t value) { return static_cast<char>(value); };
  if (c < 0x80) return {byte(c)};
  if (c < 0x800) return {byte(0xC0 | c >> 6), byte(0x80 | (c & 63))};
  if (c < 0x10000) return {byte(0xE0 | c >> 12), byte(0x80 | (c >> 6 & 63)), byte(0x80 | (c & 63))};
  return {byte(0xF0 | c >> 18), byte(0x80 | (c >> 12 & 63)), byte(0x80 | (c >> 6 & 63)),
          byte(0x80 | (c & 63))};
}

}  // namespace

TokenizerData SmallByteLevelData() {
  TokenizerData data;
  data.kind = TokenizerData::Kind::kByteLevelBpe;
  data.pre_tokenizer = "gpt-2";
  const auto add = [&](std::string token, TokenizerData::TokenType type) {
    data.tokens.push_back(std::move(token));
    data.token_types.push_back(type);
  };
  for (int byte = 0; byte < 256; ++byte) {
    add(ByteToAlphabet(static_cast<uint8_t>(byte)), TokenizerData::kNormal);
  }
  const std::string space = ByteToAlphabet(' ');
  for (const auto& [left, right] : std::vector<std::pair<std::string, std::string>>{{"h", "e"},
                                                                                    {"l", "l"},
                                                                                    {"he", "ll"},
                                                                                    {"hell", "o"},
                                                                                    {space, "w"},
                                                                                    {"a", "a"},
                                                                                    {"aa", "aa"}}) {
    data.merges.push_back(absl::StrCat(left, " ", right));
    add(left + right, TokenizerData::kNormal);
  }
  add("<|bos|>", TokenizerData::kControl);
  add("<|end|>", TokenizerData::kControl);
  add("<think>", TokenizerData::kUserDefined);
  data.bos_id = 263;
  data.eos_ids = {264};
  return data;
}

TokenizerData SmallSentencePieceData() {
  TokenizerData data;
  data.kind = TokenizerData::Kind::kSentencePieceBpe;
  const auto add = [&](std::string token, TokenizerData::TokenType type, float score) {
    data.tokens.push_back(std::move(token));
    data.token_types.push_back(type);
    data.scores.push_back(score);
  };
  add("<unk>", TokenizerData::kUnknown, 0);
  add("<bos>", TokenizerData::kControl, 0);
  add("<eos>", TokenizerData::kControl, 0);
  for (int byte = 0; byte < 256; ++byte) {
    add(BytePiece(static_cast<uint8_t>(byte)), TokenizerData::kByte, 0);
  }
  const std::string space(kSpaceSymbol);
  add("ab", TokenizerData::kNormal, -1);
  add(space + "a", TokenizerData::kNormal, -2);
  add("a", TokenizerData::kNormal, -3);
  add("b", TokenizerData::kNormal, -4);
  add(space, TokenizerData::kNormal, -5);
  data.unknown_id = 0;
  data.bos_id = 1;
  data.eos_ids = {2};
  data.add_bos = true;
  return data;
}

nlohmann::json ByteLevelTokenizerJson(const TokenizerData& data) {
  nlohmann::json vocab = nlohmann::json::object();
  nlohmann::json merges = nlohmann::json::array();
  nlohmann::json added = nlohmann::json::array();
  for (size_t id = 0; id < data.tokens.size(); ++id) {
    if (data.token_types[id] == TokenizerData::kNormal) {
      vocab[data.tokens[id]] = id;
    } else {
      added.push_back({{"id", id},
                       {"content", data.tokens[id]},
                       {"special", data.token_types[id] == TokenizerData::kControl},
                       {"normalized", false}});
    }
  }
  for (const std::string& merge : data.merges) {
    const std::pair<std::string, std::string> pair = absl::StrSplit(merge, ' ');
    merges.push_back({pair.first, pair.second});
  }
  return {{"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"added_tokens", added},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
}

std::unique_ptr<Tokenizer> MakeTokenizer(const TokenizerData& data) {
  auto tokenizer = Tokenizer::Create(data);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

std::string RandomText(std::mt19937& generator, int num_parts) {
  const std::vector<std::string> words = {"hello",   " world", "aaaa", "  ",  "\n",    "<|end|>",
                                          "<think>", "12",     "ab a", "'ll", "<|bos|"};
  std::string text;
  for (int i = 0; i < num_parts; ++i) {
    if (generator() % 2 == 0) {
      text += words[generator() % words.size()];
      continue;
    }
    constexpr uint32_t kLimits[] = {0x80, 0x800, 0xD800, 0x110000};
    uint32_t character = generator() % kLimits[generator() % 4];
    if (character >= 0xD800 && character < 0xE000) character = 0xFFFD;  // surrogates
    text += Utf8(character);
  }
  return text;
}

nlohmann::ordered_json ReadData(const std::string& name) {
  std::ifstream file(absl::StrCat(KVEC_SOURCE_DIR "/tests/coordinator/text/data/", name));
  EXPECT_TRUE(file.is_open()) << name;
  return nlohmann::ordered_json::parse(file);
}

}  // namespace kvec::coordinator::text
