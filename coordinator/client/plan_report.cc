#include "coordinator/client/plan_report.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "coordinator/client/text_table.h"

namespace kvec::coordinator::client {
namespace {

std::string RangeText(int begin, int count) {
  return count == 0 ? "-" : absl::StrCat(begin, "-", begin + count - 1);
}

std::string Worker(const cluster::WorkerMemory& worker) {
  return absl::StrCat("stage ", worker.placement.stage(), " rank ", worker.placement.rank());
}

std::string WorkerTable(const cluster::MemoryPlan& plan) {
  std::vector<std::vector<std::string>> rows = {{"worker", "layers", "heads", "KV heads", "weights",
                                                 "activations", "workspace", "reserve",
                                                 "KV arena"}};
  for (const cluster::WorkerMemory& worker : plan.workers) {
    rows.push_back({Worker(worker),
                    RangeText(static_cast<int>(worker.placement.first_layer()),
                              static_cast<int>(worker.placement.num_layers())),
                    RangeText(worker.share.heads.begin, worker.share.heads.count),
                    RangeText(worker.share.kv_heads.begin, worker.share.kv_heads.count),
                    FormatBytes(worker.weight_bytes), FormatBytes(worker.activation_bytes),
                    FormatBytes(worker.workspace_bytes), FormatBytes(worker.reserve_bytes),
                    FormatBytes(worker.arena_bytes)});
  }
  return FormatTable(rows);
}

// What a request takes on all workers together is of more use than on the tightest one.
std::string RequestTable(const cluster::PlanOptions& options, const cluster::MemoryPlan& plan) {
  const uint64_t page_bytes = plan.tightest().page_bytes;
  std::vector<std::vector<std::string>> rows = {
      {absl::StrCat("requests of ", options.memory.context_tokens, " tokens, ",
                    options.answer_tokens, " of them the answer"),
       "side by side", "each, on the tightest worker"}};
  rows.push_back(
      {"full cache", absl::StrCat(plan.num_full), FormatBytes(plan.request_pages * page_bytes)});
  if (options.budget_tokens.has_value()) {
    rows.push_back({absl::StrCat("budget of ", *options.budget_tokens, " entries per KV head"),
                    absl::StrCat(plan.num_evicted),
                    FormatBytes(plan.evicted_request_pages * page_bytes)});
  }
  return FormatTable(rows);
}

absl::string_view WeightsText(cluster::HeldWeights weights) {
  if (weights == cluster::HeldWeights::kInt8) return " --cuda-weights int8";
  return weights == cluster::HeldWeights::kFp8 ? " --cuda-weights fp8" : "";
}

absl::string_view KvText(cluster::HeldKv type) {
  switch (type) {
    case cluster::HeldKv::kF16:
      break;  // the worker's default
    case cluster::HeldKv::kBF16:
      return " --kv-type bf16";
    case cluster::HeldKv::kF32:
      return " --kv-type f32";
    case cluster::HeldKv::kInt8:
      return " --kv-type int8";
  }
  return "";
}

// One arena's size for all ranks of a stage, that of the least: the others would not use more.
std::string StartText(const cluster::MemoryPlan& plan, const cluster::MemoryOptions& memory) {
  std::string text = absl::StrCat("kvec-coordinator --parallel ", ShapeText(plan.shape),
                                  " --step-tokens ", memory.step_tokens, "\n");
  const auto num_ranks = static_cast<size_t>(plan.shape.num_ranks);
  for (size_t first = 0; first < plan.workers.size(); first += num_ranks) {
    uint64_t kv_bytes = plan.workers[first].kv_bytes();
    for (size_t rank = 1; rank < num_ranks; ++rank) {
      kv_bytes = std::min(kv_bytes, plan.workers[first + rank].kv_bytes());
    }
    absl::StrAppend(&text, "kvec-worker --device cuda", WeightsText(memory.weights),
                    KvText(memory.kv_type), " --max-step-tokens ", memory.step_tokens,
                    " --kv-bytes ", kv_bytes,
                    plan.shape.num_stages == 1
                        ? ""
                        : absl::StrCat("  # of stage ", plan.workers[first].placement.stage()),
                    "\n");
  }
  return text;
}

}  // namespace

std::string ShapeText(const cluster::ParallelShape& shape) {
  return absl::StrCat("tp=", shape.num_ranks, ",pp=", shape.num_stages);
}

std::string PlanReport(const cluster::ModelOutline& outline, const cluster::PlanOptions& options,
                       const cluster::MemoryPlan& plan) {
  const ModelConfig& config = outline.config;
  uint64_t weight_bytes = 0;
  for (const cluster::WorkerMemory& worker : plan.workers) weight_bytes += worker.weight_bytes;
  const int num_gpus = plan.shape.num_workers();
  return absl::StrCat(config.name, ": ", config.num_layers, " layers, ", config.num_heads,
                      " query and ", config.num_kv_heads, " KV heads of ", config.head_dim, ", ",
                      FormatBytes(weight_bytes), " of weights\n", ShapeText(plan.shape), " on ",
                      num_gpus, num_gpus == 1 ? " GPU" : " GPUs", " of ",
                      FormatBytes(options.memory.gpu_bytes), "\n\n", WorkerTable(plan), "\n",
                      RequestTable(options, plan), "\n", StartText(plan, options.memory));
}

std::string MisfitText(const cluster::MemoryPlan& plan, const cluster::PlanOptions& options) {
  const cluster::WorkerMemory& worker = plan.tightest();
  const uint64_t request_bytes = plan.request_pages * worker.page_bytes;
  return absl::StrCat(ShapeText(plan.shape), ": ", Worker(worker), " needs ",
                      FormatBytes(worker.bytes_beside_arena()), " beside its KV arena and ",
                      FormatBytes(request_bytes), " there for one request of ",
                      options.memory.context_tokens, " tokens; its GPU has ",
                      FormatBytes(options.memory.gpu_bytes));
}

}  // namespace kvec::coordinator::client
