#ifndef KVEC_WORKER_EVICTION_POLICIES_H_
#define KVEC_WORKER_EVICTION_POLICIES_H_

#include <memory>

#include "worker/eviction/policy.h"

namespace kvec::worker::eviction {

// One maker per policy file; policy.cc registers them.
std::unique_ptr<Policy> MakeStreaming(PolicyParameters parameters);
std::unique_ptr<Policy> MakeSnapKv(PolicyParameters parameters);  // pyramidkv: by its layer budgets
std::unique_ptr<Policy> MakeAdaSnapKv(PolicyParameters parameters);
std::unique_ptr<Policy> MakeKvecPaper(PolicyParameters parameters);
std::unique_ptr<Policy> MakeKvec(PolicyParameters parameters);

}  // namespace kvec::worker::eviction

#endif  // KVEC_WORKER_EVICTION_POLICIES_H_
