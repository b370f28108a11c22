variable "project" {
  description = "The project's id."
  type        = string
}

variable "region" {
  description = "Where Memorystore and the bucket are."
  type        = string
}

variable "network" {
  description = "The id of the VPC network of workers and applications: projects/PROJECT/global/networks/NAME."
  type        = string
}

variable "subnetwork" {
  description = "The id of the subnetwork that gets Memorystore's addresses."
  type        = string
}

variable "bucket" {
  description = "The name of the archive's bucket."
  type        = string
}

variable "prefix" {
  description = "The archive's prefix in the bucket."
  type        = string
  default     = "chats"
}

variable "kms_key" {
  description = "The id of a key of your own for the bucket's objects; null for Google's."
  type        = string
  default     = null
}

variable "soft_delete_seconds" {
  description = "How long the bucket keeps deleted objects: purged chats, too. 0, or 604800 (7 days) to 7776000 (90 days)."
  type        = number
  default     = 604800

  validation {
    condition     = var.soft_delete_seconds == 0 || (var.soft_delete_seconds >= 604800 && var.soft_delete_seconds <= 7776000)
    error_message = "Soft delete keeps objects for 7 to 90 days, or not at all (0)."
  }
}

variable "node_type" {
  description = "The size of a node of Memorystore."
  type        = string
  default     = "HIGHMEM_MEDIUM"
}

variable "kubernetes_service_account" {
  description = "The worker's account in GKE, as NAMESPACE/NAME; null if workers run elsewhere."
  type        = string
  default     = "torpor/torpor"
}
