#include "worker/cache/query_window.h"

#include <algorithm>
#include <utility>

#include "common/status_macros.h"

namespace kvec::worker::cache {

absl::StatusOr<std::unique_ptr<QueryWindow>> QueryWindow::Create(kernels::Device& device,
                                                                 const Options& options) {
  auto window = std::unique_ptr<QueryWindow>(new QueryWindow(options));
  const int rows = options.num_layers * options.capacity;
  KVEC_ASSIGN_OR_RETURN(window->memory_, device.Allocate(sizeof(float) * static_cast<size_t>(rows) *
                                                         static_cast<size_t>(options.query_cols)));
  window->queries_ = {static_cast<float*>(window->memory_->data()), rows, options.query_cols,
                      options.query_cols};
  return window;
}

void QueryWindow::Keep(int position, int first_row, int num_rows,
                       std::vector<kernels::KeptRow>& kept) const {
  const int end = position + num_rows;
  for (int i = std::max({position, options_.first_position, end - options_.capacity}); i < end;
       ++i) {
    kept.push_back({.row = first_row + i - position,
                    .to = queries_.data + RowOf(i) * queries_.stride,
                    .layer_stride = options_.capacity * queries_.stride});
  }
}

}  // namespace kvec::worker::cache
