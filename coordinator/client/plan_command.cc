#include "coordinator/client/plan_command.h"

#include <algorithm>
#include <optional>
#include <ostream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "coordinator/client/gpu_count.h"
#include "coordinator/client/plan_report.h"
#include "coordinator/cluster/gpu_cards.h"

namespace kvec::coordinator::client {
namespace {

constexpr int kUsualGpusPerHost = 8;

constexpr char kExamples[] =
    R"(Weights, activations and workspace are what kvec allocates; the reserve is an estimate of what
CUDA's context, its libraries and NCCL take. --weights is the worker's --cuda-weights.
Examples:
  kvec plan --model Llama-3.1-8B/config.json --card A100-40
  kvec plan --model Llama-3.1-70B/config.json --card H100-80 --gpus 8 --context 131072 --budget 2048
  kvec plan --model model.gguf --gpu-memory 24GiB --gpus 4x2 --parallel tp=2,pp=4
)";

absl::StatusOr<std::optional<uint32_t>> ParseBudget(const std::string& text) {
  uint32_t tokens = 0;
  if (text == "full") return std::nullopt;
  if (absl::SimpleAtoi(text, &tokens) && tokens > 0) return tokens;
  return absl::InvalidArgumentError(
      absl::StrCat("--budget: \"", text, "\" is neither a number of entries nor full"));
}

cluster::HeldKv HeldKvOf(const std::string& name) {
  if (name == "int8") return cluster::HeldKv::kInt8;
  if (name == "f32") return cluster::HeldKv::kF32;
  return name == "bf16" ? cluster::HeldKv::kBF16 : cluster::HeldKv::kF16;
}

cluster::HeldWeights HeldWeightsOf(const std::string& name) {
  if (name == "file") return cluster::HeldWeights::kInFiles;
  if (name == "int8") return cluster::HeldWeights::kInt8;
  if (name == "fp8") return cluster::HeldWeights::kFp8;
  return name == "q4" ? cluster::HeldWeights::kQ4 : cluster::HeldWeights::kBF16;
}

}  // namespace

PlanCommand::PlanCommand(CLI::App& program)
    : command_(program.add_subcommand(
          "plan", "Which GPUs a model fits, how it is divided, how many requests it then serves")) {
  command_->footer(kExamples);
  command_
      ->add_option("--model", model_,
                   "GGUF file, Hugging Face folder, or a config.json alone (required)")
      ->type_name("FILE|DIR")
      ->required();
  AddGpuOptions();
  AddRequestOptions();
}

void PlanCommand::AddGpuOptions() {
  CLI::Option* card =
      command_->add_option("--card", card_, absl::StrCat("Known: ", cluster::KnownGpuCards()))
          ->type_name("NAME");
  command_->add_option("--gpu-memory", gpu_bytes_, "Memory of each GPU, instead of --card")
      ->type_name("BYTES|GiB")
      ->transform(CLI::AsSizeValue(false))
      ->excludes(card);
  command_
      ->add_option("--gpus", gpus_,
                   "How many there are, on each of HOSTS (default: the fewest that do)")
      ->type_name("N[xHOSTS]");
  command_
      ->add_option("--parallel", parallel_,
                   "Ranks that share every layer's heads and stages that share the layers "
                   "(default: ranks within a host, stages for the rest)")
      ->type_name("tp=A,pp=B");
  command_->add_option("--reserve", reserve_bytes_, "Memory that is left to CUDA, NCCL and others")
      ->type_name("BYTES|GiB")
      ->transform(CLI::AsSizeValue(false))
      ->capture_default_str();
  command_
      ->add_option("--weights", weights_,
                   "How the workers hold them: bf16, int8 or fp8 (GPUs), q4 (no device yet), or "
                   "file (CPU workers hold what a GGUF file has)")
      ->check(CLI::IsMember({"bf16", "int8", "fp8", "q4", "file"}))
      ->capture_default_str();
}

void PlanCommand::AddRequestOptions() {
  command_
      ->add_option("--context", context_tokens_,
                   "Tokens of a request, prompt and answer (default: the model's context)")
      ->type_name("TOKENS")
      ->check(CLI::PositiveNumber);
  command_->add_option("--answer", answer_tokens_, "Of these, the answer's")
      ->type_name("TOKENS")
      ->capture_default_str();
  command_
      ->add_option("--budget", budget_,
                   "Entries per KV head that eviction leaves of a prompt, or full")
      ->type_name("ENTRIES|full")
      ->capture_default_str();
  command_->add_option("--kv-type", kv_type_, "Of cached keys and values")
      ->check(CLI::IsMember({"auto", "f16", "bf16", "f32", "int8"}))
      ->capture_default_str();
  command_->add_option("--step-tokens", step_tokens_, "Rows of a Step at most")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
}

absl::StatusOr<cluster::PlanOptions> PlanCommand::ReadOptions(
    const cluster::ModelOutline& outline) const {
  cluster::PlanOptions options;
  options.memory.gpu_bytes = gpu_bytes_;
  if (gpu_bytes_ == 0) {
    if (card_.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("name a --card (", cluster::KnownGpuCards(), ") or a --gpu-memory"));
    }
    KVEC_ASSIGN_OR_RETURN(options.memory.gpu_bytes, cluster::GpuMemoryBytes(card_));
  }
  if (weights_ == "file" && !outline.has_files()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--weights: file, but ", model_, " has no weights"));
  }
  options.memory.weights = HeldWeightsOf(weights_);
  options.memory.kv_type = HeldKvOf(kv_type_);
  options.memory.step_tokens = step_tokens_;
  options.memory.reserve_bytes = reserve_bytes_;
  options.memory.context_tokens =
      context_tokens_ > 0 ? context_tokens_ : static_cast<uint32_t>(outline.config.context_length);
  options.answer_tokens = answer_tokens_;
  KVEC_ASSIGN_OR_RETURN(options.budget_tokens, ParseBudget(budget_));
  return options;
}

absl::StatusOr<cluster::MemoryPlan> PlanCommand::MakePlan(
    const cluster::ModelOutline& outline, const cluster::PlanOptions& options) const {
  GpuCount gpus{.per_host = kUsualGpusPerHost};
  if (!gpus_.empty()) {
    KVEC_ASSIGN_OR_RETURN(gpus, ParseGpuCount(gpus_));
  } else if (parallel_.empty()) {
    return SmallestPlan(outline, gpus.per_host, options);
  }
  cluster::ParallelShape shape = ShapeFor(gpus, outline.config.num_heads);
  if (!parallel_.empty()) {
    KVEC_ASSIGN_OR_RETURN(shape, cluster::ParseParallelShape(parallel_));
    if (!gpus_.empty() && shape.num_workers() != gpus.per_host * gpus.num_hosts) {
      return absl::InvalidArgumentError(
          absl::StrCat("--parallel: ", parallel_, " is ", shape.num_workers(), " workers, --gpus ",
                       gpus_, " are ", gpus.per_host * gpus.num_hosts));
    }
  }
  KVEC_ASSIGN_OR_RETURN(cluster::MemoryPlan plan, PlanMemory(outline, shape, options));
  if (plan.fits()) return plan;
  const int max_ranks = gpus.num_hosts > 1 ? gpus.per_host : kUsualGpusPerHost;
  const auto smallest = SmallestPlan(outline, max_ranks, options);
  return absl::ResourceExhaustedError(absl::StrCat(
      outline.config.name, " does not fit ", MisfitText(plan, options),
      smallest.ok()
          ? absl::StrCat(". The smallest group that holds it is ", ShapeText(smallest->shape),
                         " on ", smallest->shape.num_workers(), " such GPUs")
          : absl::StrCat(", and ", smallest.status().message())));
}

absl::Status PlanCommand::Run(Terminal& terminal) {
  KVEC_ASSIGN_OR_RETURN(const cluster::ModelOutline outline, cluster::ReadModelOutline(model_));
  KVEC_ASSIGN_OR_RETURN(const cluster::PlanOptions options, ReadOptions(outline));
  KVEC_ASSIGN_OR_RETURN(const cluster::MemoryPlan plan, MakePlan(outline, options));
  terminal.out << PlanReport(outline, options, plan);
  terminal.out.flush();
  return absl::OkStatus();
}

}  // namespace kvec::coordinator::client
