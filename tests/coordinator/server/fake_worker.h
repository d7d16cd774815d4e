#ifndef KVEC_TESTS_COORDINATOR_SERVER_FAKE_WORKER_H_
#define KVEC_TESTS_COORDINATOR_SERVER_FAKE_WORKER_H_

#include <grpcpp/client_context.h>

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "kvec/v1/cluster.grpc.pb.h"
#include "tests/coordinator/scheduler/fake_worker.h"

namespace kvec::coordinator::server {

// A worker that attaches to a coordinator over gRPC and answers its Steps with tokens of a script:
// a whole model of its own, with real page tables, so it serves alone. Its thread attaches once.
class FakeWorker {
 public:
  struct Options {
    std::string worker_id = "w0";
    std::string version = {};      // empty: this build's
    std::string fingerprint = {};  // empty: the test model's
    uint32_t max_step_tokens = 4096;
    uint64_t total_pages = 20'000;
    // The token that a choice generates after `index` others.
    std::function<int32_t(uint32_t choice, uint32_t index)> script = {};
    // Steps that it executes before it waits for AllowSteps.
    int allowed_steps = 1 << 30;
    // Silent: sends nothing after it has registered.
    bool is_silent = false;
  };

  FakeWorker(const std::string& cluster_address, Options options);
  // Disconnects.
  ~FakeWorker();

  // Breaks the stream, as the death of the process would.
  void Disconnect();
  void AllowSteps(int num_steps);
  // Says that it leaves, and waits for the coordinator to end the stream.
  void Leave();

  // Whether it happened within 20 seconds:
  bool AwaitReady();     // a group was formed
  bool AwaitIdle();      // it holds no sequence, and has executed a Step
  bool AwaitHeldStep();  // a Step waits for AllowSteps
  bool AwaitAbort();     // AbortGroup has come
  // The status with which the coordinator ended the stream.
  std::optional<absl::Status> AwaitEnd();

 private:
  using Stream = grpc::ClientReaderWriter<v1::WorkerMessage, v1::CoordinatorMessage>;

  void Run();
  void Handle(const v1::CoordinatorMessage& message);
  void FormGroup(const v1::FormGroup& form);
  void Execute(const v1::Step& step);
  // Replaces the tokens that the fake model sampled by the script's.
  void ApplyScript(const v1::Step& step, v1::StepResult& result);
  void Send(const v1::WorkerMessage& message);
  bool Await(const std::function<bool()>& condition);

  struct SequenceInfo {
    uint32_t prompt_tokens = 0;
    uint32_t choice = 0;
  };

  const Options options_;
  const std::unique_ptr<v1::Cluster::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<scheduler::FakeWorker> executor_;
  std::map<uint64_t, SequenceInfo> sequences_;
  uint64_t epoch_ = 0;

  std::mutex write_mutex_;  // of the stream
  std::mutex mutex_;
  std::condition_variable changed_;
  int allowed_steps_ = 0;
  int num_executed_ = 0;
  size_t num_sequences_ = 0;
  bool is_ready_ = false;
  bool holds_step_ = false;
  bool is_aborted_ = false;
  bool is_disconnected_ = false;
  std::optional<absl::Status> end_;

  std::thread thread_;
};

}  // namespace kvec::coordinator::server

#endif  // KVEC_TESTS_COORDINATOR_SERVER_FAKE_WORKER_H_
