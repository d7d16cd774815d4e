#ifndef KVEC_WORKER_SERVER_WORKER_H_
#define KVEC_WORKER_SERVER_WORKER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/model/model_files.h"
#include "common/security/channel_credentials.h"
#include "grpcpp/grpcpp.h"
#include "kernels/device.h"
#include "kvec/v1/cluster.grpc.pb.h"
#include "worker/engine/engine.h"
#include "worker/engine/progress.h"
#include "worker/server/comm_slot.h"
#include "worker/server/step_queue.h"
#include "worker/server/step_trace.h"

namespace kvec::worker::server {

// A worker process: keeps one stream to the coordinator, registers, forms its part of the group and
// executes Steps. Three threads while attached: the caller of Serve reads the stream, one executes,
// one sends heartbeats.
class Worker {
 public:
  struct Options {
    std::string worker_id;
    std::string host;
    std::string device;  // "cpu"
    int threads = 1;
    int max_step_tokens = 512;
    int64_t kv_bytes = 0;  // of the arena; 0: from what the worker holds, as AutomaticKvBytes
    uint64_t available_bytes = 0;  // of the memory that weights and arena are in
    bool shares_memory = true;     // with the other workers of its host
    uint64_t read_bytes_per_second = 0;  // see MeasureReadSpeed; 0: not measured
    kernels::KvType kv_type = kernels::KvType::kBF16;
    comm::CommEndpoint::Options comm;
    // Of a device with a memory of its own, which no other worker of the host shares; else null.
    // Outlives the worker.
    comm::DeviceComm* device_comm = nullptr;
    security::ClientTls tls;
    std::string join_token_file;  // empty: KVEC_JOIN_TOKEN of the environment, if it is there
    absl::Duration heartbeat_interval = absl::Seconds(1);
    absl::Duration max_backoff = absl::Seconds(2);  // between attempts to attach
  };

  // `files` and `device` must outlive the worker.
  Worker(const ModelFiles& files, kernels::Device& device, Options options);

  // Attaches to the coordinator at `address` and serves until Stop; attaches again when the stream
  // breaks. Returns OK after Stop or Leave, and an error only where another attempt is useless: the
  // coordinator refused this worker (FAILED_PRECONDITION, INVALID_ARGUMENT, UNAUTHENTICATED), or a
  // file of options.tls can't be used.
  absl::Status Serve(const std::string& address);

  // Ends Serve as soon as the coordinator lets this worker go: see Leaving. Any thread.
  void Leave();

  // Breaks the stream and ends Serve. Any thread.
  void Stop();

 private:
  using Stream = grpc::ClientReaderWriter<v1::WorkerMessage, v1::CoordinatorMessage>;

  // One stream to the coordinator at `address` from its begin to its end.
  absl::Status RunAttachment(const std::string& address, grpc::Channel& channel,
                             v1::Cluster::Stub& stub);
  // Returns when connected, when stopping, or after a while: then the next call says why not.
  void AwaitConnection(grpc::Channel& channel);
  void ReadMessages(Stream& stream, StepQueue& queue);
  void ExecuteMessages(Stream& stream, StepQueue& queue);
  // And, once it is to leave, that.
  void SendHeartbeats(Stream& stream);
  bool is_ending() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return stopping_ || leaving_; }

  absl::Status Handle(const v1::CoordinatorMessage& message, Stream& stream);
  absl::Status FormGroup(const v1::FormGroup& form, Stream& stream);
  // Makes engine_ hold this worker's share of the model.
  absl::Status LoadShare(const v1::FormGroup& form);
  int64_t KvBytes(const v1::FormGroup& form) const;
  // Leaves the group, if there is one. Its peers, if they still wait, are told by the coordinator.
  void LeaveGroup();
  absl::Status AbortGroup(const v1::AbortGroup& abort, Stream& stream);
  absl::Status ExecuteStep(const v1::Step& step, Stream& stream);
  void Send(Stream& stream, const v1::WorkerMessage& message);
  v1::WorkerMessage RegisterMessage() const;
  v1::WorkerMessage HeartbeatMessage() const;

  const ModelFiles& files_;
  kernels::Device& device_;
  const Options options_;

  engine::Progress progress_;  // of engine_; outlives it
  CommSlot comm_slot_;

  // Of the executing thread. The engine is kept from one group, and attachment, to the next, since
  // reading weights is slow.
  std::unique_ptr<engine::Engine> engine_;
  v1::Placement engine_placement_;
  std::unique_ptr<comm::GroupComm> comm_;  // of the group; null: none, or a group of one
  std::string coordinator_;                // HOST:PORT
  uint64_t group_epoch_ = 0;
  StepTrace step_trace_;

  absl::Mutex write_mutex_;  // one Write at a time on a stream
  absl::Mutex mutex_;
  grpc::ClientContext* context_ ABSL_GUARDED_BY(mutex_) = nullptr;  // of the attachment
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool leaving_ ABSL_GUARDED_BY(mutex_) = false;
  bool attachment_ended_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace kvec::worker::server

#endif  // KVEC_WORKER_SERVER_WORKER_H_
