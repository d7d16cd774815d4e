#include "worker/comm/nccl/nccl_library.h"

#include <dlfcn.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace kvec::worker::comm::nccl {
namespace {

absl::StatusOr<void*> OpenLibrary() {
  std::string reason;
  // As the loader finds it (LD_LIBRARY_PATH, ld.so.conf), then where the build found it.
  for (const std::string& name :
       {absl::StrCat("libnccl.so.", NCCL_MAJOR),
        absl::StrCat(KVEC_NCCL_LIBRARY_DIR, "/libnccl.so.", NCCL_MAJOR)}) {
    if (void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
    absl::StrAppend(&reason, reason.empty() ? "" : "; ", dlerror());
  }
  return absl::FailedPreconditionError(
      absl::StrCat("a group of GPUs needs NCCL, which cannot be opened: ", reason));
}

template <typename Function>
absl::Status Find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function != nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("NCCL has no ", name));
}

absl::StatusOr<NcclLibrary> Load() {
  KVEC_ASSIGN_OR_RETURN(void* const library, OpenLibrary());
  NcclLibrary nccl;
  KVEC_RETURN_IF_ERROR(Find(library, "ncclGetUniqueId", nccl.get_unique_id));
  KVEC_RETURN_IF_ERROR(Find(library, "ncclCommInitRankConfig", nccl.init_rank));
  KVEC_RETURN_IF_ERROR(Find(library, "ncclCommAbort", nccl.abort));
  KVEC_RETURN_IF_ERROR(Find(library, "ncclCommGetAsyncError", nccl.get_async_error));
  KVEC_RETURN_IF_ERROR(Find(library, "ncclAllReduce", nccl.all_reduce));
  KVEC_RETURN_IF_ERROR(Find(library, "ncclAllGather", nccl.all_gather));
  KVEC_RETURN_IF_ERROR(Find(library, "ncclBroadcast", nccl.broadcast));
  KVEC_RETURN_IF_ERROR(Find(library, "ncclSend", nccl.send));
  KVEC_RETURN_IF_ERROR(Find(library, "ncclRecv", nccl.receive));
  KVEC_RETURN_IF_ERROR(Find(library, "ncclGetErrorString", nccl.get_error_string));
  return nccl;
}

}  // namespace

absl::StatusOr<const NcclLibrary*> NcclLibrary::Open() {
  static const auto& library = *new absl::StatusOr<NcclLibrary>(Load());
  if (!library.ok()) return library.status();
  return &*library;
}

}  // namespace kvec::worker::comm::nccl
