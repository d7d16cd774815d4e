#ifndef KVEC_COORDINATOR_CLIENT_PLAN_COMMAND_H_
#define KVEC_COORDINATOR_CLIENT_PLAN_COMMAND_H_

#include <cstdint>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/client/terminal.h"
#include "coordinator/cluster/memory_plan.h"

namespace kvec::coordinator::client {

// `kvec plan`: which GPUs a model fits, how it is divided, and how many requests it then serves.
// Asks no coordinator, and needs no weights.
class PlanCommand {
 public:
  // Adds the subcommand; this object must outlive the parse.
  explicit PlanCommand(CLI::App& program);

  bool is_chosen() const { return command_->parsed(); }
  absl::Status Run(Terminal& terminal);

 private:
  void AddGpuOptions();
  void AddRequestOptions();
  absl::StatusOr<cluster::PlanOptions> ReadOptions(const cluster::ModelOutline& outline) const;
  // Of --parallel or --gpus; of neither, the smallest.
  absl::StatusOr<cluster::MemoryPlan> MakePlan(const cluster::ModelOutline& outline,
                                               const cluster::PlanOptions& options) const;

  CLI::App* const command_;
  std::string model_;
  std::string card_;
  uint64_t gpu_bytes_ = 0;
  std::string gpus_;
  std::string parallel_;
  uint32_t context_tokens_ = 0;  // 0: the model's
  uint32_t answer_tokens_ = 512;
  std::string budget_ = "full";
  std::string kv_type_ = "auto";
  std::string weights_ = "bf16";
  uint32_t step_tokens_ = 512;
  uint64_t reserve_bytes_ = cluster::MemoryOptions().reserve_bytes;
};

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_PLAN_COMMAND_H_
