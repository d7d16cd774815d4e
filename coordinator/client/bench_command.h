#ifndef KVEC_COORDINATOR_CLIENT_BENCH_COMMAND_H_
#define KVEC_COORDINATOR_CLIENT_BENCH_COMMAND_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/client/bench_point.h"
#include "coordinator/client/bench_runner.h"
#include "coordinator/client/connection.h"
#include "coordinator/client/connection_options.h"
#include "coordinator/client/local_service.h"
#include "coordinator/client/terminal.h"
#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::client {

// `kvec bench`: prefill and decode rates of a running service, or of one that it starts.
class BenchCommand {
 public:
  // Adds the subcommand; this object must outlive the parse.
  explicit BenchCommand(CLI::App& program);

  bool is_chosen() const { return command_->parsed(); }
  absl::Status Run(Terminal& terminal);

 private:
  void AddServiceOptions();
  void AddMeasurementOptions();
  std::vector<BenchPoint> Points() const;
  absl::Status Measure(const Connection& connection, Terminal& terminal);

  CLI::App* const command_;
  ConnectionOptions connection_;
  LocalService::Options service_;  // used when its model is named
  std::vector<uint32_t> prompt_tokens_;
  std::vector<uint32_t> depths_;
  std::vector<uint32_t> batches_;
  BenchRunner::Options runner_;
  bool print_json_ = false;
};

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_BENCH_COMMAND_H_
