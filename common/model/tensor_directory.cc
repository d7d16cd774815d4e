#include "common/model/tensor_directory.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "common/model/error_text.h"
#include "common/status_macros.h"

namespace kvec {
namespace {

// Far beyond any model, and small enough that no product with a block's bytes overflows.
constexpr int64_t kMaxElements = int64_t{1} << 48;

std::string Describe(const FileTensor& tensor) {
  return absl::StrCat("tensor ", Quoted(tensor.name), ": ");
}

}  // namespace

absl::StatusOr<uint64_t> TensorBytes(const FileTensor& tensor) {
  int64_t num_elements = 1;
  for (const int64_t dimension : tensor.shape) {
    if (dimension < 1 || dimension > kMaxElements / num_elements) {
      return absl::InvalidArgumentError(absl::StrCat(
          Describe(tensor), "shape ", ShapeText(tensor.shape),
          " has a dimension below 1, or more than ", kMaxElements, " elements in all"));
    }
    num_elements *= dimension;
  }
  const TensorTypeTraits& traits = GetTraits(tensor.type);
  const int64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
  if (row % traits.block_elements != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(Describe(tensor), "rows of ", row, " elements are no multiple of the ",
                     traits.block_elements, " of a ", traits.name, " block"));
  }
  return RowBytes(tensor.type, num_elements);
}

absl::Status AttachData(FileTensor& tensor, absl::Span<const uint8_t> data, uint64_t offset) {
  KVEC_ASSIGN_OR_RETURN(const uint64_t size, TensorBytes(tensor));
  if (offset > data.size() || size > data.size() - offset) {
    return absl::InvalidArgumentError(absl::StrCat(Describe(tensor), "needs ", size,
                                                   " bytes at data offset ", offset, ", file has ",
                                                   data.size()));
  }
  tensor.data = data.subspan(offset, size);
  return absl::OkStatus();
}

absl::Status CheckDirectory(absl::Span<const FileTensor> tensors) {
  absl::flat_hash_set<absl::string_view> names;
  std::vector<const FileTensor*> by_address;
  for (const FileTensor& tensor : tensors) {
    if (!names.insert(tensor.name).second) {
      return absl::InvalidArgumentError(absl::StrCat(Describe(tensor), "name is there twice"));
    }
    by_address.push_back(&tensor);
  }
  std::sort(by_address.begin(), by_address.end(), [](const FileTensor* a, const FileTensor* b) {
    return a->data.data() < b->data.data();
  });
  for (size_t i = 1; i < by_address.size(); ++i) {
    const FileTensor& previous = *by_address[i - 1];
    if (previous.data.data() + previous.data.size() > by_address[i]->data.data()) {
      return absl::InvalidArgumentError(absl::StrCat(
          Describe(*by_address[i]), "data overlaps that of tensor ", Quoted(previous.name)));
    }
  }
  return absl::OkStatus();
}

}  // namespace kvec
