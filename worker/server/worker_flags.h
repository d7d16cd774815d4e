#ifndef KVEC_WORKER_SERVER_WORKER_FLAGS_H_
#define KVEC_WORKER_SERVER_WORKER_FLAGS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "common/model/model_config.h"
#include "common/security/channel_credentials.h"
#include "kernels/kv_arena.h"
#include "worker/comm/comm_endpoint.h"

namespace kvec::worker::server {

// The command line of kvec-worker, or its config file.
struct WorkerFlags {
  std::string model;
  std::string coordinator = "127.0.0.1:50052";
  security::ClientTls tls;
  std::string join_token_file;
  std::string worker_id;  // empty: host name and process id
  std::string device = "cpu";
  std::string cuda_weights = "bf16";
  bool deterministic = false;
  bool cuda_graphs = true;
  bool cuda_wgmma = true;
  int threads = 0;  // 0: all processors this process may use
  std::string isa;  // empty: the best
  double drain_seconds = 30;
  uint64_t memory_bytes = 0;  // 0: what is free on the device
  int64_t kv_bytes = 0;       // 0: from kv_pages, or by itself
  int64_t kv_pages = 0;
  std::string kv_type = "auto";
  int max_step_tokens = 512;
  std::string comm_transport = "auto";
  std::string comm_interface;  // empty: the one that leads to the coordinator
  int comm_timeout_seconds = 120;
  std::string log_level = "info";
};

// Fills `flags`. An exit code when the program is to end at once: 0 after --help and --version, 2
// after wrong usage; the message is printed already.
std::optional<int> ParseWorkerFlags(int argc, char** argv, WorkerFlags& flags);

// "auto" is f16, as large and as fast as bf16 and closer to the model: on SmolLM2's goldens
// log-probabilities are within 0.01 of float32's, with bf16 within 0.09; bf16 keys cost models with
// key biases up to 2 in a logit (Qwen2). "int8" has half the bytes and is within 0.24, 0.025 in the
// mean. INVALID_ARGUMENT for an unknown name.
absl::StatusOr<kernels::KvType> ResolveKvType(const std::string& name);

// INVALID_ARGUMENT for an unknown transport.
absl::StatusOr<comm::CommEndpoint::Options> ResolveComm(const WorkerFlags& flags);

// The arena's size that kv_bytes or kv_pages asks for; 0: neither does.
int64_t RequestedKvBytes(const WorkerFlags& flags, const ModelConfig& config, kernels::KvType type);

// What a worker holds of each sequence, and what it may take.
struct KvShare {
  int num_layers = 0;
  int num_kv_heads = 0;  // of each
  // Of the device's memory, divided by the workers of the group that share it.
  uint64_t available_bytes = 0;
};

// Room for 16 sequences of the whole context length, at most half of what is available.
int64_t AutomaticKvBytes(const ModelConfig& config, kernels::KvType type, const KvShare& share);

}  // namespace kvec::worker::server

#endif  // KVEC_WORKER_SERVER_WORKER_FLAGS_H_
