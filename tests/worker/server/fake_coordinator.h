#ifndef KVEC_TESTS_WORKER_SERVER_FAKE_COORDINATOR_H_
#define KVEC_TESTS_WORKER_SERVER_FAKE_COORDINATOR_H_

#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "grpcpp/grpcpp.h"
#include "kvec/v1/cluster.grpc.pb.h"

namespace kvec::worker::server {

// A coordinator as a worker's test needs it: takes one worker at a time, sends what the test says,
// and keeps what the worker sends.
class FakeCoordinator : public v1::Cluster::Service {
 public:
  using Stream = grpc::ServerReaderWriter<v1::CoordinatorMessage, v1::WorkerMessage>;

  // Listens on the loopback, on a free port when `port` is 0.
  explicit FakeCoordinator(int port = 0) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:" + std::to_string(port),
                             grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }

  ~FakeCoordinator() override {
    CloseStream(grpc::Status::OK);
    server_->Shutdown(std::chrono::system_clock::now());
  }

  int port() const { return port_; }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  // Waits for the worker's next message that is no heartbeat; nothing after ten seconds.
  std::optional<v1::WorkerMessage> Next() { return NextOf(messages_); }
  std::optional<v1::WorkerMessage> NextHeartbeat() { return NextOf(heartbeats_); }

  void Send(const v1::CoordinatorMessage& message) {
    absl::MutexLock lock(&mutex_);
    if (stream_ != nullptr) stream_->Write(message);
  }

  // Ends the worker's stream with `status`.
  void CloseStream(const grpc::Status& status) {
    absl::MutexLock lock(&mutex_);
    end_status_ = status;
    if (context_ != nullptr) context_->TryCancel();
  }

  // The status that the next attachment gets at once.
  void RefuseNext(const grpc::Status& status) {
    absl::MutexLock lock(&mutex_);
    refusal_ = status;
  }

  grpc::Status Attach(grpc::ServerContext* context, Stream* stream) override {
    {
      absl::MutexLock lock(&mutex_);
      if (refusal_.has_value()) return *std::exchange(refusal_, std::nullopt);
      stream_ = stream;
      context_ = context;
    }
    for (v1::WorkerMessage message; stream->Read(&message);) {
      absl::MutexLock lock(&mutex_);
      (message.has_heartbeat() ? heartbeats_ : messages_).push_back(message);
    }
    absl::MutexLock lock(&mutex_);
    stream_ = nullptr;
    context_ = nullptr;
    return end_status_;
  }

 private:
  std::optional<v1::WorkerMessage> NextOf(std::deque<v1::WorkerMessage>& queue) {
    absl::MutexLock lock(&mutex_);
    const auto has_message = [&queue] { return !queue.empty(); };
    if (!mutex_.AwaitWithTimeout(absl::Condition(&has_message), absl::Seconds(10))) {
      return std::nullopt;
    }
    v1::WorkerMessage message = queue.front();
    queue.pop_front();
    return message;
  }

  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
  absl::Mutex mutex_;
  Stream* stream_ ABSL_GUARDED_BY(mutex_) = nullptr;
  grpc::ServerContext* context_ ABSL_GUARDED_BY(mutex_) = nullptr;
  grpc::Status end_status_ ABSL_GUARDED_BY(mutex_);
  std::optional<grpc::Status> refusal_ ABSL_GUARDED_BY(mutex_);
  std::deque<v1::WorkerMessage> messages_ ABSL_GUARDED_BY(mutex_);
  std::deque<v1::WorkerMessage> heartbeats_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvec::worker::server

#endif  // KVEC_TESTS_WORKER_SERVER_FAKE_COORDINATOR_H_
