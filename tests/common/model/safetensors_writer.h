#ifndef KVEC_TESTS_COMMON_MODEL_SAFETENSORS_WRITER_H_
#define KVEC_TESTS_COMMON_MODEL_SAFETENSORS_WRITER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace kvec {

// Makes safetensors files for tests.
struct SafetensorsTensor {
  std::string name;
  std::string dtype;
  std::vector<int64_t> shape;
  std::string data;
};

// A well-formed file with the tensors one after the other.
std::string BuildSafetensors(const std::vector<SafetensorsTensor>& tensors);

// A file with any header, and its true length before it.
std::string BuildSafetensors(absl::string_view header, absl::string_view data);

}  // namespace kvec

#endif  // KVEC_TESTS_COMMON_MODEL_SAFETENSORS_WRITER_H_
