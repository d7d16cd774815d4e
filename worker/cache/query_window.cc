#include "worker/cache/query_window.h"

#include <algorithm>
#include <utility>

#include "common/status_macros.h"

namespace kvec::worker::cache {

absl::StatusOr<std::unique_ptr<QueryWindow>> QueryWindow::Create(kernels::Device& device,
                                                                 const Options& options) {
  auto window = std::unique_ptr<QueryWindow>(new QueryWindow(options));
  const int rows = options.num_layers * options.capacity;
  KVEC_ASSIGN_OR_RETURN(window->memory_,
                        device.Allocate(sizeof(float) * static_cast<size_t>(rows) *
                                        static_cast<size_t>(options.query_cols)));
  window->queries_ = {static_cast<float*>(window->memory_->data()), rows, options.query_cols,
                      options.query_cols};
  return window;
}

absl::Status QueryWindow::Store(kernels::Device& device, int layer, int position,
                                kernels::Tensor queries) {
  const int end = position + queries.rows;
  int begin = std::max({position, options_.first_position, end - options_.capacity});
  while (begin < end) {
    // Up to the ring's end, then from its start.
    const int row = RowOf(begin);
    const int count = std::min(end - begin, options_.capacity - row);
    KVEC_RETURN_IF_ERROR(device.CopyRows(queries.Rows(begin - position, count),
                                         Layer(layer).Rows(row, count)));
    begin += count;
  }
  return absl::OkStatus();
}

}  // namespace kvec::worker::cache
