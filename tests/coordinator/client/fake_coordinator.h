#ifndef KVEC_TESTS_COORDINATOR_CLIENT_FAKE_COORDINATOR_H_
#define KVEC_TESTS_COORDINATOR_CLIENT_FAKE_COORDINATOR_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "grpcpp/grpcpp.h"
#include "kvec/v1/inference.grpc.pb.h"

namespace kvec::coordinator::client {

// A server on a free port of 127.0.0.1 that answers what a test tells it to.
class FakeCoordinator : public v1::Inference::Service {
 public:
  using Writer = grpc::ServerWriter<v1::GenerateResponse>;
  using Answer =
      std::function<grpc::Status(grpc::ServerContext&, const v1::GenerateRequest&, Writer&)>;

  // What its health says from the start.
  enum class Health { kServing, kNotServing };

  // `answer` runs on the server's threads, possibly on several at once.
  explicit FakeCoordinator(Answer answer, Health health = Health::kServing);
  ~FakeCoordinator() override;

  const std::string& target() const { return target_; }
  void SetServing();
  // GetStatus fails from this call on; the first is 1.
  void FailStatusFrom(uint32_t call);
  // All Generate requests so far.
  std::vector<v1::GenerateRequest> requests() const;
  // The header of this name in the last GetModel call; empty: it had none.
  std::string header(const std::string& name) const;

  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        Writer* writer) override;
  // Each id is a byte of the text.
  grpc::Status Detokenize(grpc::ServerContext* context, const v1::DetokenizeRequest* request,
                          v1::DetokenizeResponse* response) override;
  grpc::Status GetModel(grpc::ServerContext* context, const v1::GetModelRequest* request,
                        v1::GetModelResponse* response) override;
  grpc::Status GetStatus(grpc::ServerContext* context, const v1::GetStatusRequest* request,
                         v1::GetStatusResponse* response) override;
  // Of as many Steps as asked for, on one worker, or of none above 500.
  grpc::Status Trace(grpc::ServerContext* context, const v1::TraceRequest* request,
                     v1::TraceResponse* response) override;

 private:
  const Answer answer_;
  mutable absl::Mutex mutex_;
  std::vector<v1::GenerateRequest> requests_ ABSL_GUARDED_BY(mutex_);
  std::multimap<std::string, std::string> headers_ ABSL_GUARDED_BY(mutex_);
  uint32_t num_status_calls_ ABSL_GUARDED_BY(mutex_) = 0;
  uint32_t failing_from_ ABSL_GUARDED_BY(mutex_) = UINT32_MAX;
  std::string target_;
  std::unique_ptr<grpc::Server> server_;
};

// Answers with one token and one text per message, then usage: "stop" as the finish reason.
FakeCoordinator::Answer AnswerWith(std::vector<std::string> texts);

}  // namespace kvec::coordinator::client

#endif  // KVEC_TESTS_COORDINATOR_CLIENT_FAKE_COORDINATOR_H_
