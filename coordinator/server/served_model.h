#ifndef KVEC_COORDINATOR_SERVER_SERVED_MODEL_H_
#define KVEC_COORDINATOR_SERVER_SERVED_MODEL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/model/model_config.h"
#include "common/model/tokenizer_data.h"
#include "coordinator/cluster/placement.h"
#include "coordinator/text/chat_template.h"
#include "coordinator/text/tokenizer.h"

namespace kvec::coordinator::server {

// What the coordinator knows of its model: all but the weights, which only workers read. Immutable
// once made; any thread.
struct ServedModel {
  std::string name;
  ModelConfig config;
  cluster::ModelBytes bytes;
  std::string fingerprint;
  std::unique_ptr<text::Tokenizer> tokenizer;
  std::unique_ptr<text::ChatTemplate> chat_template;
  TokenizerData tokenizer_data;  // what `tokenizer` was made of, for those who tokenize themselves

  // `name` replaces the file's own when not empty. The errors of ModelFiles::Open, and
  // INVALID_ARGUMENT for a vocabulary that cannot be used; a chat template that cannot be used is
  // logged and left out.
  static absl::StatusOr<std::unique_ptr<ServedModel>> Load(const std::string& path,
                                                           const std::string& name);

  // [num_layers] as SchedulerOptions and WorkerCapacity want them.
  std::vector<uint32_t> SlidingWindows() const {
    return {config.sliding_windows.begin(), config.sliding_windows.end()};
  }
};

}  // namespace kvec::coordinator::server

#endif  // KVEC_COORDINATOR_SERVER_SERVED_MODEL_H_
