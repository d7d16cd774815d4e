#ifndef KVEC_COORDINATOR_CLUSTER_MODEL_OUTLINE_H_
#define KVEC_COORDINATOR_CLUSTER_MODEL_OUTLINE_H_

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "common/model/model_config.h"
#include "common/model/rank_share.h"
#include "common/tensor/tensor_type.h"
#include "coordinator/cluster/placement.h"

namespace kvec::coordinator::cluster {

// What a plan needs to know of a model: it may be one whose weights are not at hand.
struct ModelOutline {
  ModelConfig config;
  // Of each tensor in the model's files, by GGUF name. Empty: there is only a config.json.
  std::map<std::string, TensorType> types;

  bool has_files() const { return !types.empty(); }
  // How a tensor is stored; `otherwise` where there are no files.
  TensorType TypeOf(const std::string& name, TensorType otherwise) const;
};

// A GGUF file, a Hugging Face folder, a folder with a config.json and no weights, or a config.json.
// NOT_FOUND and INVALID_ARGUMENT as ModelFiles::Open.
absl::StatusOr<ModelOutline> ReadModelOutline(const std::string& path);

// As the coordinator and the workers would measure files of such a model; `otherwise` as above.
ModelBytes OutlineBytes(const ModelOutline& outline, TensorType otherwise);
ColumnBlocks OutlineBlocks(const ModelOutline& outline, TensorType otherwise);

}  // namespace kvec::coordinator::cluster

#endif  // KVEC_COORDINATOR_CLUSTER_MODEL_OUTLINE_H_
