#include "coordinator/server/trace_context.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/random/random.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace kvec::coordinator::server {
namespace {

// Field by field: version, trace id, parent id, flags.
constexpr size_t kDigits[] = {2, 32, 16, 2};

bool IsLowerHex(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return absl::ascii_isdigit(c) || (c >= 'a' && c <= 'f');
  });
}

bool IsZero(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c == '0'; });
}

}  // namespace

std::string ParseTraceId(absl::string_view traceparent) {
  const std::vector<absl::string_view> fields = absl::StrSplit(traceparent, '-');
  // Versions to come may have more fields.
  if (fields.size() < 4 || fields[0] == "ff" || (fields[0] == "00" && fields.size() > 4)) return "";
  for (size_t i = 0; i < 4; ++i) {
    if (fields[i].size() != kDigits[i] || !IsLowerHex(fields[i])) return "";
  }
  if (IsZero(fields[1]) || IsZero(fields[2])) return "";
  return std::string(fields[1]);
}

std::string TraceIdOf(const grpc::CallbackServerContext& context) {
  const auto header = context.client_metadata().find("traceparent");
  if (header != context.client_metadata().end()) {
    std::string id = ParseTraceId({header->second.data(), header->second.size()});
    if (!id.empty()) return id;
  }
  absl::BitGen random;
  return absl::StrCat(
      absl::Hex(absl::Uniform<uint64_t>(absl::IntervalClosed, random, 1, UINT64_MAX),
                absl::kZeroPad16),
      absl::Hex(absl::Uniform<uint64_t>(random), absl::kZeroPad16));
}

}  // namespace kvec::coordinator::server
