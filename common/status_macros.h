#ifndef KVEC_COMMON_STATUS_MACROS_H_
#define KVEC_COMMON_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Returns from the enclosing function when `expr` is not OK.
#define KVEC_RETURN_IF_ERROR(expr)                                  \
  do {                                                              \
    if (absl::Status kvec_status = (expr); !kvec_status.ok()) {     \
      return kvec_status;                                           \
    }                                                               \
  } while (false)

// KVEC_ASSIGN_OR_RETURN(auto file, GgufFile::Open(path));
#define KVEC_ASSIGN_OR_RETURN(lhs, expr) \
  KVEC_ASSIGN_OR_RETURN_IMPL_(KVEC_CONCAT_(kvec_status_or_, __LINE__), lhs, expr)
#define KVEC_ASSIGN_OR_RETURN_IMPL_(statusor, lhs, expr) \
  auto statusor = (expr);                                \
  if (!statusor.ok()) return std::move(statusor).status(); \
  lhs = *std::move(statusor)
#define KVEC_CONCAT_(a, b) KVEC_CONCAT_IMPL_(a, b)
#define KVEC_CONCAT_IMPL_(a, b) a##b

#endif  // KVEC_COMMON_STATUS_MACROS_H_
