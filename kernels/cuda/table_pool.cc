#include "kernels/cuda/table_pool.h"

#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "kernels/cuda/cuda_status.h"

namespace kvec::kernels::cuda {
namespace {

constexpr int kFirstOrder = 13;  // 256 KiB

}  // namespace

class TablePool::Table : public ResidentTable {
 public:
  Table(BuddyAllocator& allocator, int64_t begin, int order)
      : allocator_(allocator), begin_(begin), order_(order) {}
  ~Table() override { allocator_.Release(begin_, order_); }

  int32_t begin() const { return static_cast<int32_t>(begin_); }
  size_t capacity() const { return static_cast<size_t>(BuddyAllocator::BlockWords(order_)); }
  size_t num_ids() const { return num_ids_; }  // that are there
  void set_num_ids(size_t num_ids) { num_ids_ = num_ids; }

 private:
  BuddyAllocator& allocator_;
  const int64_t begin_;
  const int order_;
  size_t num_ids_ = 0;
};

absl::StatusOr<int32_t> TablePool::Update(absl::Span<const int32_t> ids,
                                          std::unique_ptr<ResidentTable>& resident) {
  auto* table = static_cast<Table*>(resident.get());
  if (table == nullptr || table->capacity() < ids.size()) {
    resident.reset();
    KVEC_ASSIGN_OR_RETURN(auto made, Allocate(ids.size()));
    table = made.get();
    resident = std::move(made);
  }
  if (table->num_ids() < ids.size()) {
    const absl::Span<const int32_t> added = ids.subspan(table->num_ids());
    writes_.push_back({table->begin() + static_cast<int32_t>(table->num_ids()),
                       static_cast<int32_t>(new_ids_.size()), static_cast<int32_t>(added.size())});
    new_ids_.insert(new_ids_.end(), added.begin(), added.end());
    table->set_num_ids(ids.size());
  }
  return table->begin();
}

absl::StatusOr<std::unique_ptr<TablePool::Table>> TablePool::Allocate(size_t num_ids) {
  const int order = BuddyAllocator::OrderFor(static_cast<int64_t>(num_ids));
  while (true) {
    const int64_t begin = allocator_.Allocate(order);
    if (begin >= 0) return std::make_unique<Table>(allocator_, begin, order);
    KVEC_RETURN_IF_ERROR(Grow());
  }
}

absl::Status TablePool::Grow() {
  const int64_t words = allocator_.capacity() == 0 ? BuddyAllocator::BlockWords(kFirstOrder)
                                                   : 2 * allocator_.capacity();
  if (words > std::numeric_limits<int32_t>::max()) {
    return absl::ResourceExhaustedError(absl::StrCat("page tables: ", words, " ids"));
  }
  KVEC_ASSIGN_OR_RETURN(auto larger,
                        CudaBuffer::Allocate(static_cast<size_t>(words) * sizeof(int32_t)));
  if (buffer_ != nullptr) {
    KVEC_RETURN_IF_ERROR(ToStatus(cudaMemcpyAsync(larger->data(), buffer_->data(), buffer_->bytes(),
                                                  cudaMemcpyDeviceToDevice, stream_),
                                  "page tables"));
  }
  CountBufferMove();
  buffer_ = std::move(larger);
  allocator_.Grow(kFirstOrder);
  return absl::OkStatus();
}

absl::Status TablePool::Flush() {
  if (writes_.empty()) return absl::OkStatus();
  KVEC_RETURN_IF_ERROR(
      uploader_.Reserve(writes_.size() * sizeof(TableWrite) + new_ids_.size() * sizeof(int32_t)));
  KVEC_ASSIGN_OR_RETURN(const TableWrite* const writes,
                        uploader_.Upload(absl::MakeConstSpan(writes_)));
  KVEC_ASSIGN_OR_RETURN(const int32_t* const new_ids,
                        uploader_.Upload(absl::MakeConstSpan(new_ids_)));
  KVEC_RETURN_IF_ERROR(ToStatus(WriteTables(stream_, writes, static_cast<int>(writes_.size()),
                                            new_ids, static_cast<int32_t*>(buffer_->data())),
                                "page tables"));
  num_uploaded_ids_ += static_cast<int64_t>(new_ids_.size());
  writes_.clear();
  new_ids_.clear();
  return absl::OkStatus();
}

}  // namespace kvec::kernels::cuda
