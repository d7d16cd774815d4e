#ifndef KVEC_COORDINATOR_CLUSTER_CLUSTER_SERVICE_H_
#define KVEC_COORDINATOR_CLUSTER_CLUSTER_SERVICE_H_

#include <grpcpp/server_context.h>

#include "coordinator/cluster/step_pump.h"
#include "kvec/v1/cluster.grpc.pb.h"

namespace kvec::coordinator::cluster {

// Where workers attach. gRPC calls it from its threads.
class ClusterService final : public v1::Cluster::CallbackService {
 public:
  // `pump` must outlive the server that the service is registered with.
  explicit ClusterService(StepPump& pump) : pump_(pump) {}

  grpc::ServerBidiReactor<v1::WorkerMessage, v1::CoordinatorMessage>* Attach(
      grpc::CallbackServerContext* context) override;

 private:
  StepPump& pump_;
};

}  // namespace kvec::coordinator::cluster

#endif  // KVEC_COORDINATOR_CLUSTER_CLUSTER_SERVICE_H_
