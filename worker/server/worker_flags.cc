#include "worker/server/worker_flags.h"

#include <algorithm>
#include <iostream>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "common/security/client_flags.h"
#include "common/version.h"

namespace kvec::worker::server {
namespace {

constexpr int kWrongUsage = 2;
constexpr int64_t kAutomaticSequences = 16;

void AddMemoryFlags(CLI::App& app, WorkerFlags& flags) {
  app.add_option(
         "--memory-bytes", flags.memory_bytes,
         "Memory for weights and KV arena, as far as the coordinator chooses the group's shape "
         "and this worker its arena (default: what is free on the device)")
      ->check(CLI::PositiveNumber);
  app.add_option(
         "--kv-bytes", flags.kv_bytes,
         "Size of the KV arena in bytes (default: this worker's part of 16 sequences of the "
         "whole context, at most half of the free memory, which the group's workers on this "
         "host share)")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--kv-pages", flags.kv_pages,
                 "Size of the KV arena in pages of 16 tokens of one KV head of one layer")
      ->check(CLI::NonNegativeNumber);
  app.add_option(
         "--kv-type", flags.kv_type,
         "Type of cached keys and values: auto (f16), bf16, f16, f32, or int8: half the memory "
         "of f16")
      ->capture_default_str();
}

void AddDeviceFlags(CLI::App& app, WorkerFlags& flags) {
  app.add_option("--device", flags.device, "cpu, or cuda: the first GPU of CUDA_VISIBLE_DEVICES")
      ->capture_default_str()
      ->check(CLI::IsMember({"cpu", "cuda"}));
  app.add_option("--cuda-weights", flags.cuda_weights,
                 "On a GPU, the type that weights are held and multiplied in, whatever the file "
                 "has: bf16; int8 or fp8 (e4m3), half the memory, with a scale per row and each "
                 "input rounded to as many bits (int8: compute capability 7.5; fp8: 8.9)")
      ->capture_default_str()
      ->check(CLI::IsMember({"bf16", "int8", "fp8"}));
  app.add_flag(
      "--deterministic", flags.deterministic,
      "On a GPU: products are added up in the same order whatever runs beside a request, by "
      "one cuBLASLt algorithm per weight without split-K, at some cost in speed; a CPU "
      "always does so");
  app.add_option("--cuda-graphs", flags.cuda_graphs,
                 "On a GPU: Steps of generated tokens are launched as recorded graphs; answers do "
                 "not depend on it")
      ->capture_default_str();
  app.add_option(
         "--cuda-wgmma", flags.cuda_wgmma,
         "On a GPU of compute capability 9.0: prefill attention by its warpgroups' products "
         "(bf16 and f16 caches, heads of 64 and 128 numbers) where a check at the start "
         "finds that they work; false: as on other GPUs")
      ->capture_default_str();
  app.add_option("--threads", flags.threads,
                 "Threads that compute (default: all processors this process may use)")
      ->check(CLI::Range(0, 1024));
  app.add_option("--isa", flags.isa,
                 "Instruction set: scalar, avx2 or avx512 (default: the best of this processor)");
}

void AddFlags(CLI::App& app, WorkerFlags& flags) {
  app.add_option("--model", flags.model, "GGUF file, or Hugging Face folder (required)")
      ->required();
  app.add_option("--coordinator", flags.coordinator,
                 "HOST:PORT of the coordinator's cluster listener")
      ->capture_default_str();
  security::AddClientTlsFlags(app, flags.tls);
  app.add_option("--join-token-file", flags.join_token_file,
                 "File with the token that the coordinator wants of its workers, read at every "
                 "attachment (default: the environment's KVEC_JOIN_TOKEN)")
      ->type_name("FILE")
      ->group("Security");
  app.add_option("--worker-id", flags.worker_id, "Name in logs and status (default: host-pid)");
  AddDeviceFlags(app, flags);
  AddMemoryFlags(app, flags);
  app.add_option("--max-step-tokens", flags.max_step_tokens,
                 "Rows of a Step at most; not below the coordinator's --step-tokens")
      ->capture_default_str()
      ->check(CLI::Range(1, 65536));
  app.add_option("--comm-transport", flags.comm_transport,
                 "How the other workers of the group are reached: auto (shared memory on the same "
                 "host, else TCP), shared-memory or tcp; none is encrypted")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "shared-memory", "tcp"}));
  app.add_option(
      "--comm-interface", flags.comm_interface,
      "Network interface for TCP, eth0 (default: the one that leads to the coordinator)");
  app.add_option("--comm-timeout", flags.comm_timeout_seconds,
                 "Seconds until a worker that does not answer another one breaks the group")
      ->capture_default_str()
      ->check(CLI::Range(1, 86400));
  app.add_option(
         "--drain-seconds", flags.drain_seconds,
         "After SIGTERM or Ctrl-C: how long running requests may go on where no spare worker "
         "takes this one's place; another signal ends it at once")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 3600.0));
  app.add_option("--log-level", flags.log_level, "debug, info, warning or error")
      ->capture_default_str();
}

}  // namespace

std::optional<int> ParseWorkerFlags(int argc, char** argv, WorkerFlags& flags) {
  CLI::App app(
      "kvec-worker: holds a share of a model's layers and heads and executes the Steps that a "
      "kvec-coordinator sends.\n\nExample:\n  kvec-worker --model model.gguf --coordinator "
      "127.0.0.1:50052 --threads 2\n");
  app.set_version_flag("--version", std::string(Version()));
  app.set_config("--config", "", "Config file with lines such as: threads=2");
  AddFlags(app, flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kWrongUsage;
  }
  return std::nullopt;
}

absl::StatusOr<kernels::KvType> ResolveKvType(const std::string& name) {
  if (name == "bf16") return kernels::KvType::kBF16;
  if (name == "auto" || name == "f16") return kernels::KvType::kF16;
  if (name == "f32") return kernels::KvType::kF32;
  if (name == "int8") return kernels::KvType::kInt8;
  return absl::InvalidArgumentError(
      absl::StrCat("--kv-type: unknown \"", name, "\"; known: auto, bf16, f16, f32, int8"));
}

absl::StatusOr<comm::CommEndpoint::Options> ResolveComm(const WorkerFlags& flags) {
  comm::CommEndpoint::Options options;
  if (flags.comm_transport == "shared-memory") {
    options.transport = comm::Transport::kSharedMemory;
  } else if (flags.comm_transport == "tcp") {
    options.transport = comm::Transport::kTcp;
  } else if (flags.comm_transport != "auto") {
    return absl::InvalidArgumentError(absl::StrCat("--comm-transport: unknown \"",
                                                   flags.comm_transport,
                                                   "\"; known: auto, shared-memory, tcp"));
  }
  options.interface = flags.comm_interface;
  options.timeout = absl::Seconds(flags.comm_timeout_seconds);
  return options;
}

int64_t RequestedKvBytes(const WorkerFlags& flags, const ModelConfig& config,
                         kernels::KvType type) {
  if (flags.kv_bytes > 0) return flags.kv_bytes;
  return flags.kv_pages *
         static_cast<int64_t>(kernels::KvArenaSpec{config.head_dim, type, 0}.page_bytes());
}

int64_t AutomaticKvBytes(const ModelConfig& config, kernels::KvType type, const KvShare& share) {
  const auto page_bytes =
      static_cast<int64_t>(kernels::KvArenaSpec{config.head_dim, type, 0}.page_bytes());
  const int64_t pages_per_head =
      (int64_t{config.context_length} + kernels::kPageTokens - 1) / kernels::kPageTokens;
  const int64_t sequence_bytes =
      pages_per_head * share.num_layers * share.num_kv_heads * page_bytes;
  return std::min(kAutomaticSequences * sequence_bytes,
                  static_cast<int64_t>(share.available_bytes / 2));
}

}  // namespace kvec::worker::server
