#ifndef KVEC_TESTS_COORDINATOR_TEXT_SMALL_VOCABULARIES_H_
#define KVEC_TESTS_COORDINATOR_TEXT_SMALL_VOCABULARIES_H_

#include <cstdint>
#include <memory>
#include <random>
#include <string>

#include "common/model/tokenizer_data.h"
#include "coordinator/text/tokenizer.h"
#include "nlohmann/json.hpp"

namespace kvec::coordinator::text {

// All bytes, a few merges ("he", "ll", "hell", "hello", " w", "aa", "aaaa"), <|bos|>, <|end|>, and
// the user-defined <think>. Byte b has id b; the rest follows in this order.
TokenizerData SmallByteLevelData();

// The pieces a, b, ab, U+2581 (a space), U+2581 a, all byte pieces; <unk>, <bos>, <eos> first.
TokenizerData SmallSentencePieceData();

// The same vocabulary as a tokenizer.json; its fields can be changed before it is dumped.
nlohmann::json ByteLevelTokenizerJson(const TokenizerData& data);

std::unique_ptr<Tokenizer> MakeTokenizer(const TokenizerData& data);

// Valid UTF-8 of all lengths of characters, with NUL bytes and the special tokens of the above.
std::string RandomText(std::mt19937& generator, int num_parts);

// Reads tests/coordinator/text/data/`name`.
nlohmann::ordered_json ReadData(const std::string& name);

}  // namespace kvec::coordinator::text

#endif  // KVEC_TESTS_COORDINATOR_TEXT_SMALL_VOCABULARIES_H_
