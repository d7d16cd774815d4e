// The real library, as a worker opens it; no GPU is needed for that.

#include "worker/comm/nccl/nccl_library.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace kvec::worker::comm::nccl {
namespace {

using ::testing::HasSubstr;

TEST(NcclLibraryTest, HasEveryFunctionOrSaysWhatIsMissing) {
  const absl::StatusOr<const NcclLibrary*> library = NcclLibrary::Open();
  if (!library.ok()) {
    EXPECT_EQ(library.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(library.status().message()), HasSubstr("libnccl.so.2"));
    GTEST_SKIP() << library.status();
  }
  EXPECT_EQ(*NcclLibrary::Open(), *library);  // once
  EXPECT_TRUE((*library)->ToStatus(ncclSuccess, "nothing").ok());
  EXPECT_EQ((*library)->ToStatus(ncclRemoteError, "all-reduce").code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ((*library)->ToStatus(ncclInvalidUsage, "all-reduce").code(),
            absl::StatusCode::kInternal);
  EXPECT_THAT(std::string((*library)->ToStatus(ncclRemoteError, "all-reduce").message()),
              HasSubstr("all-reduce: NCCL: "));
}

}  // namespace
}  // namespace kvec::worker::comm::nccl
