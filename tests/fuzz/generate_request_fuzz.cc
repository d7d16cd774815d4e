// A GenerateRequest as it comes from the wire: parsed, and checked against a small model.
#include <grpcpp/support/byte_buffer.h>

#include "coordinator/server/message_parsing.h"
#include "coordinator/server/request_validation.h"
#include "tests/coordinator/server/test_model.h"
#include "tests/fuzz/fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace server = kvec::coordinator::server;
  static const auto* const kModel = server::MakeTestModel().release();
  const grpc::Slice slice(data, size);
  kvec::v1::GenerateRequest request;
  if (!server::ParseMessage(grpc::ByteBuffer(&slice, 1), &request).ok()) return 0;
  kvec::v1::CachePolicy full;
  full.set_policy("full");
  for (bool is_follow_up : {false, true}) {
    server::ValidateRequest(request, *kModel, full, is_follow_up).IgnoreError();
  }
  return 0;
}
