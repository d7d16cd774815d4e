#include "coordinator/scheduler/request_status.h"

#include <algorithm>

namespace kvec::coordinator::scheduler {

v1::RequestStatus StatusOf(const RequestState& request, absl::Time now) {
  v1::RequestStatus status;
  status.set_request_id(request.request.id);
  status.set_prompt_tokens(request.prompt_tokens());
  status.set_num_choices(request.request.num_choices);
  status.set_priority(request.request.priority);
  status.set_policy(request.request.cache.policy());
  status.set_age_seconds(absl::ToDoubleSeconds(now - request.metrics.arrival()));
  uint32_t rows = 0;
  uint32_t generated = 0;
  bool decodes = false;
  for (const Sequence& choice : request.choices) {
    if (choice.is_resident()) rows = std::max(rows, choice.num_rows());
    generated += choice.num_delivered();
    decodes = decodes || choice.state() == Sequence::State::kDecode;
  }
  status.set_prompt_tokens_fed(std::min(rows, request.prompt_tokens()));
  status.set_generated_tokens(generated);
  status.set_state(request.num_resident == 0 ? "waiting" : decodes ? "decode" : "prefill");
  return status;
}

}  // namespace kvec::coordinator::scheduler
