#include "worker/cache/query_window.h"

#include <algorithm>
#include <utility>

#include "common/status_macros.h"

namespace kvec::worker::cache {

absl::StatusOr<std::unique_ptr<QueryWindow>> QueryWindow::Create(kernels::Device& device,
                                                                 int num_layers, int query_cols,
                                                                 int prompt_tokens,
                                                                 int num_queries) {
  auto window = std::unique_ptr<QueryWindow>(new QueryWindow);
  const int rows = num_layers * num_queries;
  KVEC_ASSIGN_OR_RETURN(
      window->memory_,
      device.Allocate(sizeof(float) * static_cast<size_t>(rows) * static_cast<size_t>(query_cols)));
  window->queries_ = {static_cast<float*>(window->memory_->data()), rows, query_cols, query_cols};
  window->num_queries_ = num_queries;
  window->first_position_ = prompt_tokens - num_queries;
  return window;
}

absl::Status QueryWindow::Store(kernels::Device& device, int layer, int position,
                                kernels::Tensor queries) {
  const int begin = std::max(position, first_position_);
  const int end = std::min(position + queries.rows, first_position_ + num_queries_);
  if (begin >= end) return absl::OkStatus();
  return device.CopyRows(queries.Rows(begin - position, end - begin),
                         Layer(layer).Rows(begin - first_position_, end - begin));
}

}  // namespace kvec::worker::cache
