#ifndef KVEC_TESTS_COORDINATOR_SERVER_TEST_MODEL_H_
#define KVEC_TESTS_COORDINATOR_SERVER_TEST_MODEL_H_

#include <cstdint>
#include <memory>

#include "coordinator/server/served_model.h"

namespace kvec::coordinator::server {

// A vocabulary of the 256 bytes, whose ids are their values, and of two control tokens.
inline constexpr int32_t kTestEos = 256;     // "<|end|>"
inline constexpr int32_t kTestMarker = 257;  // "<|mark|>"
inline constexpr int kTestVocabSize = 258;
inline constexpr int kTestContext = 8192;

// Two layers; a chat template that writes every message's content and a marker.
std::unique_ptr<ServedModel> MakeTestModel();

}  // namespace kvec::coordinator::server

#endif  // KVEC_TESTS_COORDINATOR_SERVER_TEST_MODEL_H_
