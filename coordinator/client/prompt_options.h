#ifndef KVEC_COORDINATOR_CLIENT_PROMPT_OPTIONS_H_
#define KVEC_COORDINATOR_CLIENT_PROMPT_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "coordinator/client/terminal.h"
#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::client {

// Where the prompt of `kvec generate` comes from: --prompt, --prompt-file, --token-ids or, without
// any of them, the standard input.
struct PromptOptions {
  std::optional<std::string> text;
  std::optional<std::string> file;
  std::optional<std::vector<uint32_t>> token_ids;
  bool is_chat = false;
  std::optional<std::string> system;
};

void AddPromptOptions(CLI::App& command, PromptOptions& options);

// Sets the request's input. A file is taken byte for byte; of the standard input a final newline is
// dropped. INVALID_ARGUMENT for text that is no UTF-8, which gRPC could not carry; NOT_FOUND for a
// file that can't be read.
absl::Status ReadPrompt(const PromptOptions& options, const Terminal& terminal,
                        v1::GenerateRequest& request);

// INVALID_ARGUMENT naming `field` and the first offending byte when `text` is no UTF-8.
absl::Status CheckUtf8(const std::string& field, const std::string& text);

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_PROMPT_OPTIONS_H_
