#ifndef KVEC_COORDINATOR_SERVER_SERVING_CONTEXT_H_
#define KVEC_COORDINATOR_SERVER_SERVING_CONTEXT_H_

#include "coordinator/cluster/step_pump.h"
#include "coordinator/scheduler/replica_router.h"
#include "coordinator/server/call_tracker.h"
#include "coordinator/server/metrics.h"
#include "coordinator/server/served_model.h"
#include "coordinator/server/serving_health.h"
#include "coordinator/server/task_pool.h"
#include "coordinator/server/tokenizer_call.h"
#include "kvec/v1/inference.pb.h"

namespace kvec::coordinator::server {

// What the calls of one server share; CoordinatorServer owns the parts, which outlive every call.
// Each is safe to use from any thread.
struct ServingContext {
  const ServedModel& model;
  scheduler::ReplicaRouter& replicas;
  cluster::StepPump& pump;
  CallTracker& calls;
  Metrics& metrics;
  TaskPool& tasks;
  const ServingHealth& health;
  TokenizerBundle& tokenizer_bundle;
  v1::CachePolicy default_cache;  // as given by flags; resolves
};

}  // namespace kvec::coordinator::server

#endif  // KVEC_COORDINATOR_SERVER_SERVING_CONTEXT_H_
