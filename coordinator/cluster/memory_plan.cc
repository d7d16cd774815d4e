#include "coordinator/cluster/memory_plan.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/scheduler/page_demand.h"

namespace kvec::coordinator::cluster {
namespace {

std::vector<uint32_t> WindowsOf(const ModelConfig& config, const v1::Placement& placement) {
  std::vector<uint32_t> windows;
  for (uint32_t i = 0; i < placement.num_layers(); ++i) {
    windows.push_back(static_cast<uint32_t>(config.sliding_windows[placement.first_layer() + i]));
  }
  return windows;
}

// Pages of a request on one worker.
struct RequestPages {
  uint64_t full = 0;     // on the way to its whole length
  uint64_t evicted = 0;  // with its answer
};

// Heads share a layer's budget as they need it: a rank's are taken to have their mean.
RequestPages PagesOf(const ModelConfig& config, const WorkerMemory& worker,
                     const PlanOptions& options) {
  const std::vector<uint32_t> windows = WindowsOf(config, worker.placement);
  const auto num_kv_heads = static_cast<uint32_t>(worker.share.kv_heads.count);
  const scheduler::PageDemand demand(num_kv_heads, windows);
  RequestPages pages;
  pages.full = demand.Peak(options.memory.context_tokens, options.memory.step_tokens);
  pages.evicted = pages.full;
  const uint32_t prompt_tokens = options.memory.context_tokens - options.answer_tokens;
  if (!options.budget_tokens.has_value() || *options.budget_tokens >= prompt_tokens) return pages;
  for (uint32_t window : windows) {
    const scheduler::PageDemand layer(num_kv_heads, {window});
    pages.evicted -= layer.Peak(options.memory.context_tokens, options.memory.step_tokens);
    pages.evicted += window > 0 ? layer.Held(options.memory.context_tokens, 0)
                                : layer.Held(*options.budget_tokens + options.answer_tokens, 0);
  }
  return pages;
}

}  // namespace

absl::StatusOr<MemoryPlan> PlanMemory(const ModelOutline& outline, const ParallelShape& shape,
                                      const PlanOptions& options) {
  const uint32_t context = options.memory.context_tokens;
  if (context == 0 || options.answer_tokens >= context) {
    return absl::InvalidArgumentError(absl::StrCat("context: ", context, " tokens, ",
                                                   options.answer_tokens,
                                                   " of them the answer; a prompt has at least 1"));
  }
  KVEC_RETURN_IF_ERROR(CheckParallelShape(shape, outline.config));
  const TensorType stored = MissingWeightType(options.memory.weights);
  MemoryPlan plan;
  plan.shape = shape;
  plan.num_full = plan.num_evicted = std::numeric_limits<uint64_t>::max();
  for (const v1::Placement& placement : PlaceWorkers(shape, OutlineBytes(outline, stored))) {
    KVEC_ASSIGN_OR_RETURN(WorkerMemory worker, MeasureWorker(outline, placement, options.memory));
    const RequestPages pages = PagesOf(outline.config, worker, options);
    const uint64_t num_full = worker.num_pages / pages.full;
    const uint64_t num_evicted =
        num_full == 0 ? 0 : 1 + (worker.num_pages - pages.full) / pages.evicted;
    if (num_full < plan.num_full) {
      plan.tightest_worker = plan.workers.size();
      plan.request_pages = pages.full;
      plan.evicted_request_pages = pages.evicted;
    }
    plan.num_full = std::min(plan.num_full, num_full);
    plan.num_evicted = std::min(plan.num_evicted, num_evicted);
    plan.workers.push_back(std::move(worker));
  }
  return plan;
}

absl::StatusOr<MemoryPlan> SmallestPlan(const ModelOutline& outline, int max_ranks,
                                        const PlanOptions& options) {
  const ModelConfig& config = outline.config;
  const int most_ranks = std::min(max_ranks, config.num_heads);
  KVEC_ASSIGN_OR_RETURN(const MemoryPlan alone, PlanMemory(outline, {}, options));
  const uint64_t weight_bytes = alone.workers[0].weight_bytes;
  const int most_gpus = std::min(kMaxPlannedGpus, most_ranks * config.num_layers);
  for (int num_gpus = 1; num_gpus <= most_gpus; ++num_gpus) {
    if (weight_bytes / static_cast<uint64_t>(num_gpus) > options.memory.gpu_bytes) continue;
    for (int ranks = std::min(most_ranks, num_gpus); ranks >= 1; --ranks) {
      const int stages = num_gpus / ranks;
      if (num_gpus % ranks != 0 || config.num_heads % ranks != 0 || stages > config.num_layers) {
        continue;
      }
      KVEC_ASSIGN_OR_RETURN(
          MemoryPlan plan,
          PlanMemory(outline, {.num_ranks = ranks, .num_stages = stages}, options));
      if (plan.fits()) return plan;
    }
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("no group of up to ", most_gpus, " such GPUs holds it"));
}

}  // namespace kvec::coordinator::cluster
