#ifndef KVEC_TESTS_WORKER_MODEL_GOLDEN_FILE_H_
#define KVEC_TESTS_WORKER_MODEL_GOLDEN_FILE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace kvec {

// What transformers says about one model, in float32 arithmetic: tests/worker/model/tiny/NAME.json,
// written by make_tiny_models.py. Log-probabilities are natural and of the unchanged distribution.
struct Golden {
  struct TokenLogProb {
    int32_t id = 0;
    double log_prob = 0;
  };

  struct Tokenization {
    std::string text;
    std::vector<int32_t> ids;  // no BOS added
  };

  // A greedy continuation; EOS does not end it.
  struct Generation {
    std::vector<int32_t> prompt_ids;
    std::vector<double> prompt_logprobs;  // [prompt_ids.size() - 1] of prompt_ids[i + 1] at i
    std::vector<int32_t> generated_ids;   // [num_steps]
    std::vector<std::vector<TokenLogProb>> top_logprobs;  // [num_steps][5], best first
  };

  std::string model;
  std::vector<Tokenization> tokenize;
  std::vector<Generation> generate;
};

// The tiny models' names: "gemma3", "llama", …
std::vector<std::string> TinyModelNames();

// Its Hugging Face folder.
std::string TinyModelFolder(const std::string& name);

absl::StatusOr<Golden> ReadTinyModelGolden(const std::string& name);

// NOT_FOUND for a missing file; INVALID_ARGUMENT where a field is missing, of another type, or its
// length does not fit the others.
absl::StatusOr<Golden> ReadGoldenFile(const std::string& path);

}  // namespace kvec

#endif  // KVEC_TESTS_WORKER_MODEL_GOLDEN_FILE_H_
