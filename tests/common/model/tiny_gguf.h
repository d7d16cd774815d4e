#ifndef KVEC_TESTS_COMMON_MODEL_TINY_GGUF_H_
#define KVEC_TESTS_COMMON_MODEL_TINY_GGUF_H_

#include "common/model/model_config.h"
#include "tests/common/model/gguf_writer.h"

namespace kvec {

// A whole GGUF model of a few kilobytes with F32 weights, to be opened as it is or spoilt by a
// test: 2 layers (7 for gemma3), hidden_size 8, intermediate_size 16, 4 query and 2 KV heads of
// head_dim 4, 12 tokens, context 64.
GgufWriter TinyGguf(ModelFamily family);

}  // namespace kvec

#endif  // KVEC_TESTS_COMMON_MODEL_TINY_GGUF_H_
