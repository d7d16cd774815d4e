#ifndef KVEC_COORDINATOR_CLIENT_PLAN_REPORT_H_
#define KVEC_COORDINATOR_CLIENT_PLAN_REPORT_H_

#include <string>

#include "coordinator/cluster/memory_plan.h"

namespace kvec::coordinator::client {

// "tp=4,pp=2", as --parallel takes it.
std::string ShapeText(const cluster::ParallelShape& shape);

// Who holds what, how much memory that takes, how many requests fit, and how to start it.
std::string PlanReport(const cluster::ModelOutline& outline, const cluster::PlanOptions& options,
                       const cluster::MemoryPlan& plan);

// Why a plan does not fit.
std::string MisfitText(const cluster::MemoryPlan& plan, const cluster::PlanOptions& options);

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_PLAN_REPORT_H_
