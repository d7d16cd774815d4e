#include "worker/comm/comm_endpoint.h"

#include <cstring>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "worker/comm/local_communicator.h"
#include "worker/comm/peer_address.h"
#include "worker/comm/ucx_communicator.h"
#include "worker/comm/ucx_links.h"

namespace kvec::worker::comm {
namespace {

constexpr size_t kMaxMembers = 1 << 16;  // a tag has 16 bits for the sender

// Channels of the communicators over one group's links.
constexpr uint8_t kGroupChannel = 0;
constexpr uint8_t kRanksChannel = 1;

absl::StatusOr<std::vector<PeerAddress>> ParseAll(absl::Span<const std::string> addresses) {
  std::vector<PeerAddress> members;
  for (size_t i = 0; i < addresses.size(); ++i) {
    absl::StatusOr<PeerAddress> member = ParsePeerAddress(addresses[i]);
    if (!member.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("comm_addresses[", i, "] ", member.status().message()));
    }
    members.push_back(*std::move(member));
  }
  return members;
}

absl::Status CheckPlace(const CommEndpoint::Place& place, size_t num_addresses) {
  if (place.num_stages < 1 || place.num_ranks < 1 || place.stage < 0 || place.rank < 0 ||
      place.stage >= place.num_stages || place.rank >= place.num_ranks) {
    return absl::InvalidArgumentError(absl::StrCat("placement: stage ", place.stage, " of ",
                                                   place.num_stages, ", rank ", place.rank, " of ",
                                                   place.num_ranks));
  }
  const size_t num_members = static_cast<size_t>(place.num_stages) * place.num_ranks;
  if (num_addresses == num_members && num_members <= kMaxMembers) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("comm_addresses: ", num_addresses, " for ",
                                                 num_members, " workers, of which there may be ",
                                                 kMaxMembers));
}

// A transport that can't be opened is an error only where nothing else may be used.
absl::Status NoteFailure(const absl::Status& status, Transport transport) {
  if (status.ok() || transport != Transport::kAuto) return status;
  LOG(WARNING) << "communicator: " << status.message();
  return absl::OkStatus();
}

struct Greeting {
  int32_t index = 0;
  int32_t has_device_memory = 0;
};

// Every member says its place and its kind of memory; what they should be is known.
absl::Status ShakeHands(const CommEndpoint::Place& place, GroupComm& comm) {
  const int size = comm.group->size();
  const Greeting mine{comm.Index(comm.stage, comm.rank), place.has_device_memory ? 1 : 0};
  std::vector<Greeting> all(size);
  KVEC_RETURN_IF_ERROR(
      comm.group->AllGather({reinterpret_cast<const uint8_t*>(&mine), sizeof(mine)},
                            {reinterpret_cast<uint8_t*>(all.data()), all.size() * sizeof(mine)}));
  for (int i = 0; i < size; ++i) {
    if (all[i].index != i) {
      return absl::InternalError(
          absl::StrCat("member ", i, " of the group takes itself for member ", all[i].index));
    }
    if (all[i].has_device_memory != mine.has_device_memory) {
      return absl::FailedPreconditionError(absl::StrCat(
          "member ", i, " of the group is a worker on a ",
          all[i].has_device_memory != 0 ? "GPU, this one is not" : "CPU, this one has a GPU"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<CommEndpoint>> CommEndpoint::Create(const Options& options) {
  std::unique_ptr<UcxWorker> shared_memory;
  std::unique_ptr<UcxWorker> tcp;
  PeerAddress address;
  address.host_id = HostId();
  std::random_device random;
  address.nonce = uint64_t{random()} << 32 | random();
  if (options.transport != Transport::kTcp) {
    absl::StatusOr<std::unique_ptr<UcxWorker>> made = UcxWorker::CreateSharedMemory();
    KVEC_RETURN_IF_ERROR(NoteFailure(made.status(), options.transport));
    if (made.ok()) shared_memory = *std::move(made);
  }
  if (options.transport != Transport::kSharedMemory && !options.interface.empty()) {
    absl::StatusOr<std::unique_ptr<UcxWorker>> made = UcxWorker::CreateTcp(options.interface);
    KVEC_RETURN_IF_ERROR(NoteFailure(made.status(), options.transport));
    if (made.ok()) tcp = *std::move(made);
  }
  if (shared_memory == nullptr && tcp == nullptr) {
    return absl::FailedPreconditionError(
        "neither shared memory nor a network interface to reach peers over");
  }
  if (shared_memory != nullptr) address.shared_memory = shared_memory->address();
  if (tcp != nullptr) address.tcp = tcp->address();
  auto links = std::make_shared<UcxLinks>(std::move(shared_memory), std::move(tcp));
  KVEC_RETURN_IF_ERROR(links->status());
  return std::unique_ptr<CommEndpoint>(
      new CommEndpoint(options, std::move(links), address.Encode()));
}

absl::StatusOr<std::unique_ptr<GroupComm>> CommEndpoint::Connect(
    const Place& place, absl::Span<const std::string> addresses) {
  KVEC_RETURN_IF_ERROR(CheckPlace(place, addresses.size()));
  KVEC_ASSIGN_OR_RETURN(const std::vector<PeerAddress> members, ParseAll(addresses));
  auto comm = std::make_unique<GroupComm>(GroupComm{.stage = place.stage,
                                                    .num_stages = place.num_stages,
                                                    .rank = place.rank,
                                                    .num_ranks = place.num_ranks,
                                                    .ranks = nullptr,
                                                    .group = nullptr});
  const int self = comm->Index(place.stage, place.rank);
  if (addresses[self] != address_) {
    return absl::InvalidArgumentError(
        absl::StrCat("comm_addresses[", self, "] is not this worker's address of now"));
  }
  if (std::exchange(is_connected_, true)) {
    return absl::FailedPreconditionError("an endpoint connects to one group only");
  }
  KVEC_RETURN_IF_ERROR(links_->Connect(members, self));

  UcxCommunicator::Options options;
  // The nonces in the addresses tell the groups of one coordinator from its successor's, which
  // counts epochs from the beginning.
  options.group_id =
      static_cast<uint32_t>(HashBytes(absl::StrCat(place.epoch, absl::StrJoin(addresses, ""))));
  options.channel = kGroupChannel;
  std::vector<int> all(members.size());
  std::iota(all.begin(), all.end(), 0);
  options.timeout = options_.connect_timeout;
  comm->group = std::make_unique<UcxCommunicator>(links_, all, options);
  KVEC_RETURN_IF_ERROR(ShakeHands(place, *comm));

  options.timeout = options_.timeout;
  comm->group = std::make_unique<UcxCommunicator>(links_, all, options);
  if (place.num_ranks == 1) {
    comm->ranks = std::make_unique<LocalCommunicator>();
    return comm;
  }
  options.channel = kRanksChannel;
  std::vector<int> ranks(place.num_ranks);
  std::iota(ranks.begin(), ranks.end(), comm->Index(place.stage, 0));
  comm->ranks = std::make_unique<UcxCommunicator>(links_, ranks, options);
  return comm;
}

void CommEndpoint::Abort() { links_->Abort(); }

bool CommEndpoint::is_waiting() const { return links_->is_waiting(); }

std::unique_ptr<GroupComm> MakeLocalGroupComm() {
  auto comm = std::make_unique<GroupComm>();
  comm->ranks = std::make_unique<LocalCommunicator>();
  comm->group = std::make_unique<LocalCommunicator>();
  return comm;
}

}  // namespace kvec::worker::comm
