#include "coordinator/cluster/cluster_service.h"

#include <memory>

#include "coordinator/cluster/worker_stream.h"

namespace kvec::coordinator::cluster {

grpc::ServerBidiReactor<v1::WorkerMessage, v1::CoordinatorMessage>* ClusterService::Attach(
    grpc::CallbackServerContext* context) {
  const auto stream = std::make_shared<WorkerStream>(pump_);
  stream->Start();
  return stream.get();
}

}  // namespace kvec::coordinator::cluster
